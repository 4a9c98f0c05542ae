//! TCP and UDP.
use super::options;
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use ckpt_image::record::{OpenFileId, SocketStateV1, SocketV1};
use ckpt_sys::socket::{self, Attached};
use ckpt_sys::{SysError, SysResult, inet_diag};
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes all sockets of TCP and UDP. Those with a name come first: a stand-in for a lost connection takes any port that is free.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, sockets: &[(OpenFileId, &SocketV1)]) -> RestoreResult<()> {
    let lost = |socket: &SocketV1| matches!(socket.state, SocketStateV1::ConnectionLost { .. });
    for (id, socket) in sockets.iter().filter(|(_, socket)| !lost(socket)) {
        maker.made.insert(*id, make(socket)?);
    }
    for (id, socket) in sockets.iter().filter(|(_, socket)| lost(socket)) {
        maker.made.insert(*id, make_lost(socket)?);
    }
    Ok(())
}

fn make(record: &SocketV1) -> RestoreResult<OwnedFd> {
    match try_make(record) {
        // What is left of the killed process's connections keeps the port for a minute, unless both had SO_REUSEADDR.
        Err(error) if error.errno() == Some(Errno::EADDRINUSE) && clear_port(record) => try_make(record),
        other => other,
    }
    .map_err(|error| match error.call {
        "bind" | "listen" => refused(&record.local, "listens or is bound", &error),
        "connect" => refused(&connected_to(record), "is connected", &error),
        _ => error.into(),
    })
}

fn try_make(record: &SocketV1) -> SysResult<OwnedFd> {
    let made = socket::new(record.domain, record.kind, record.protocol)?;
    let fd = made.as_fd();
    if !record.local.is_empty() {
        options::before_bind(fd, record)?;
        if record.kind == libc::SOCK_STREAM {
            socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        }
        socket::bind(fd, &record.local)?;
    }
    options::all(fd, record)?;
    match &record.state {
        SocketStateV1::Listening { backlog } => socket::listen(fd, *backlog)?,
        SocketStateV1::ConnectedTo { address } => socket::connect(fd, address)?,
        _ => {}
    }
    Ok(made)
}

fn connected_to(record: &SocketV1) -> Vec<u8> {
    match &record.state {
        SocketStateV1::ConnectedTo { address } => address.clone(),
        _ => Vec::new(),
    }
}

/// Ends what is left, without any process, of connections from the address that a TCP socket needs; whether there was any.
fn clear_port(record: &SocketV1) -> bool {
    let port = bytes_at::<2>(&record.local, 2).map_or(0, u16::from_be_bytes);
    let own = if record.domain == libc::AF_INET { record.local.get(4..8) } else { record.local.get(8..24) };
    let Some(own) = own.filter(|_| record.kind == libc::SOCK_STREAM && port != 0) else { return false };
    let any = own.iter().all(|byte| *byte == 0);
    let mut cleared = false;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for orphan in inet_diag::orphans(family, port).unwrap_or_default() {
            if !any && !orphan.local_address().ends_with(own) && !own.ends_with(orphan.local_address()) {
                continue;
            }
            match orphan.destroy() {
                Ok(()) => cleared = true,
                Err(error) => tracing::debug!(%error, "what is left of a connection cannot be ended"),
            }
        }
    }
    cleared
}

fn refused(address: &[u8], does: &str, error: &SysError) -> RestoreError {
    let remedy = match error.errno() {
        Some(Errno::EADDRINUSE) => {
            "End the program that uses this address now (ss -anp shows it), or wait a minute if it is held by connections of the \
             killed program, and restore again"
        }
        Some(Errno::EADDRNOTAVAIL) => "Give this machine that address (ip address add) and restore again",
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENODEV) => {
            "Bring up the network that leads there and restore again"
        }
        _ => "Remove the cause and restore again",
    };
    let reason = format!("a socket of the program {does} there, which is not possible now: {}", error.source);
    RestoreError::File { path: show_address(address), reason, remedy: remedy.into() }
}

/// The address in a `sockaddr_in` or `sockaddr_in6`.
fn show_address(address: &[u8]) -> String {
    let family = address.get(..2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes);
    let port = address.get(2..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes);
    let ip = match i32::from(family) {
        libc::AF_INET => bytes_at::<4>(address, 4).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        libc::AF_INET6 => bytes_at::<16>(address, 8).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
        _ => None,
    };
    ip.map_or_else(|| "an address".into(), |ip| std::net::SocketAddr::new(ip, port).to_string())
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A connection that the other side has closed, with what had arrived on it.
fn make_lost(record: &SocketV1) -> RestoreResult<OwnedFd> {
    let made = socket::new(record.domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    if let Err(error) = close_from_afar(made.as_fd(), record) {
        tracing::debug!(%error, "no loopback network: a lost connection is shut down on this side");
        // On a socket without connection this fails and yet leaves it at its end: reads return 0, writes fail.
        let _ = socket::shutdown(made.as_fd(), libc::SHUT_RDWR);
    }
    options::of_lost(made.as_fd(), record)?;
    Ok(made)
}

/// Connects a socket over the loopback network, delivers what had arrived, and closes the other side.
fn close_from_afar(fd: BorrowedFd<'_>, record: &SocketV1) -> SysResult<()> {
    let mut any = vec![0; if record.domain == libc::AF_INET { 16 } else { 28 }];
    let family = u16::try_from(record.domain).unwrap_or(0);
    any[..2].copy_from_slice(&family.to_ne_bytes());
    if record.domain == libc::AF_INET {
        any[4..8].copy_from_slice(&[127, 0, 0, 1]);
    } else {
        // ::ffff:127.0.0.1: there is IPv4 where IPv6 is switched off.
        any[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    }
    let listener = socket::new(record.domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    if record.domain == libc::AF_INET6 {
        for end in [fd, listener.as_fd()] {
            socket::set_int_option(end, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        }
    }
    let waiting: usize = record.queue.iter().map(|message| message.data.len()).sum();
    if waiting > 0 {
        let room = i32::try_from(waiting.saturating_mul(2)).unwrap_or(i32::MAX / 2).max(1 << 20);
        for (end, name) in [(fd, libc::SO_RCVBUFFORCE), (listener.as_fd(), libc::SO_SNDBUFFORCE)] {
            let _ = socket::set_int_option(end, libc::SOL_SOCKET, name, room);
        }
    }
    socket::bind(listener.as_fd(), &any)?;
    socket::listen(listener.as_fd(), 1)?;
    socket::connect(fd, &socket::local_name(listener.as_fd())?)?;
    let far = socket::accept(listener.as_fd())?;
    for message in &record.queue {
        let mut rest = message.data.as_slice();
        while !rest.is_empty() {
            let sent = socket::send(far.as_fd(), rest, &Attached::default())?;
            rest = rest.get(sent..).unwrap_or_default();
        }
    }
    socket::shutdown(far.as_fd(), libc::SHUT_WR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_image::record::DatagramV1;
    use std::io::Read;
    use std::net::TcpStream;

    #[test]
    fn a_lost_connection_gives_what_had_arrived_and_then_its_end() {
        for domain in [libc::AF_INET, libc::AF_INET6] {
            let data = vec![7; 300_000];
            let message = DatagramV1 { data: data.clone(), from: Vec::new(), files: Vec::new(), creds: None };
            let record = SocketV1 {
                domain,
                kind: libc::SOCK_STREAM,
                protocol: libc::IPPROTO_TCP,
                inode: 1,
                local: Vec::new(),
                state: SocketStateV1::ConnectionLost { peer: Vec::new() },
                owner: (0, 0),
                options: Vec::new(),
                shutdown: 0,
                queue: vec![message],
                bound_file: None,
            };
            let mut stream = TcpStream::from(make_lost(&record).unwrap());
            let mut read = Vec::new();
            stream.read_to_end(&mut read).unwrap();
            assert_eq!(read, data);
        }
    }

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        let mut v4 = vec![2, 0, 0, 80, 127, 0, 0, 1];
        v4.extend([0; 8]);
        assert_eq!(show_address(&v4), "127.0.0.1:80");
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend([0; 20]);
        assert_eq!(show_address(&v6), "[::]:80");
    }
}
