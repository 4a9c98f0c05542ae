//! Network interfaces: netdevice(7).
use crate::error::{SysError, SysResult};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd;

/// Brings an interface of this process's network namespace up.
pub fn set_up(name: &str) -> SysResult<()> {
    let failed = |call| move |errno| SysError::new(call, name, errno);
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(failed("socket"))?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays the NUL that it is.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: `request` is valid for reading and writing; the flags are what SIOCGIFFLAGS has written.
    let outcome = unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) == 0 {
            request.ifr_ifru.ifru_flags |= i16::try_from(libc::IFF_UP).unwrap_or(0);
            libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)
        } else {
            -1
        }
    };
    if outcome == 0 { Ok(()) } else { Err(SysError::last("ioctl(SIOCSIFFLAGS)", name)) }
}
