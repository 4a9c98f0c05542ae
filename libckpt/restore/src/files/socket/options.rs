//! Socket options.
use super::filter;
use ckpt_image::record::SocketV1;
use ckpt_sys::SysResult;
use ckpt_sys::socket::{option, set_option};
use std::os::fd::BorrowedFd;

/// What bind(2) looks at; it is set before, and with the others again after.
const BEFORE_BIND: [(i32, i32); 8] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND),
];
/// Of a connection that is lost, what would tie its stand-in to a network that it is not on.
const OF_THE_NETWORK: [(i32, i32); 4] = [
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
];

/// Sets the options that bind(2) looks at.
pub(super) fn before_bind(fd: BorrowedFd<'_>, socket: &SocketV1) -> SysResult<()> {
    restore(fd, socket, |which| BEFORE_BIND.contains(&which))
}

/// Sets all options.
pub(super) fn all(fd: BorrowedFd<'_>, socket: &SocketV1) -> SysResult<()> {
    // It was set before bind(2), which then has it on for every address but `::`, and does not let go of it.
    let settled = !socket.local.is_empty();
    restore(fd, socket, |which| !settled || which != (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY))
}

/// Sets all options but [`share_port`].
pub(super) fn all_but_port(fd: BorrowedFd<'_>, socket: &SocketV1) -> SysResult<()> {
    let settled = !socket.local.is_empty();
    let later = [(libc::SOL_SOCKET, libc::SO_REUSEPORT), (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)];
    restore(fd, socket, |which| !settled || !later.contains(&which))
}

/// Whether others may be bound to the socket's port.
pub(super) fn share_port(fd: BorrowedFd<'_>, socket: &SocketV1) -> SysResult<()> {
    restore(fd, socket, |which| which == (libc::SOL_SOCKET, libc::SO_REUSEPORT))
}

/// Sets the options of a connection that is lost.
pub(super) fn of_lost(fd: BorrowedFd<'_>, socket: &SocketV1) -> SysResult<()> {
    restore(fd, socket, |which| !OF_THE_NETWORK.contains(&which))
}

fn restore(fd: BorrowedFd<'_>, socket: &SocketV1, wanted: impl Fn((i32, i32)) -> bool) -> SysResult<()> {
    let wanted = |which: (i32, i32)| wanted(which) && !filter::is_about(which);
    for &(level, name, ref value) in socket.options.iter().filter(|(level, name, _)| wanted((*level, *name)))
    {
        set(fd, level, name, value)?;
    }
    Ok(())
}

fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> SysResult<()> {
    if level == libc::SOL_SOCKET && matches!(name, libc::SO_SNDBUF | libc::SO_RCVBUF) {
        return set_buffer(fd, name, value);
    }
    // Most are as in every new socket; some could not even be set to that.
    if option(fd, level, name, value.len().max(4))?.as_deref() == Some(value) {
        return Ok(());
    }
    set_option(fd, level, name, value)
}

/// Sets the size of a buffer. The kernel tells twice of what it was asked for.
fn set_buffer(fd: BorrowedFd<'_>, name: i32, value: &[u8]) -> SysResult<()> {
    let bytes = value.try_into().map_or(0, i32::from_ne_bytes) / 2;
    let force = if name == libc::SO_SNDBUF { libc::SO_SNDBUFFORCE } else { libc::SO_RCVBUFFORCE };
    // Past the limit of the machine only with CAP_NET_ADMIN.
    set_option(fd, libc::SOL_SOCKET, force, &bytes.to_ne_bytes())
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, name, &bytes.to_ne_bytes()))
}
