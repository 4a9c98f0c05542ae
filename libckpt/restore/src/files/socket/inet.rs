//! TCP and UDP, raw and ping sockets.
use super::{datagrams, multicast, options};
use crate::connections::OutsideConnections;
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use ckpt_image::record::{OpenFileId, SocketStateV1, SocketV1, TcpConnectionV1};
use ckpt_sys::sockaddr as address;
use ckpt_sys::socket::{self, Attached};
use ckpt_sys::{SysError, SysResult, inet_diag, tcp_state};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes all sockets of TCP and UDP that have no connection. They come first: a stand-in for a lost connection takes any port that is free.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, sockets: &[(OpenFileId, &SocketV1)]) -> RestoreResult<()> {
    for (id, socket) in sockets {
        if !matches!(socket.state, SocketStateV1::Tcp(_)) {
            let crowded = sockets.iter().any(|(other, at)| other != id && shares_port(at, socket));
            let made = maker.further.in_net_of(*id, || make(socket, crowded))?;
            maker.made.insert(*id, made);
        }
    }
    // When all are bound: one of them may have given up the option since.
    for (id, socket) in sockets.iter().filter(|(id, _)| maker.made.contains_key(id)) {
        options::share_port(maker.made(*id)?, socket)?;
    }
    Ok(())
}

/// Whether two sockets are bound to one port.
fn shares_port(one: &SocketV1, other: &SocketV1) -> bool {
    let port = |socket: &SocketV1| bytes_at::<2>(&socket.local, 2).map_or(0, u16::from_be_bytes);
    one.protocol == other.protocol && port(one) != 0 && port(one) == port(other)
}

/// Makes one; `crowded`: another socket of the job has its port.
fn make(record: &SocketV1, crowded: bool) -> RestoreResult<OwnedFd> {
    let made = match try_make(record, crowded) {
        // What is left of the killed process's connections keeps the port for a minute, unless both had SO_REUSEADDR.
        Err(error) if error.errno() == Some(Errno::EADDRINUSE) && clear_port(record) => {
            try_make(record, crowded)
        }
        other => other,
    }
    .map_err(|error| match error.call {
        "bind" | "listen" => refused(&record.local, "listens or is bound", &error),
        "socket" if error.errno() == Some(Errno::EACCES) && record.kind == libc::SOCK_DGRAM => no_ping(),
        _ => RestoreError::from(error),
    })?;
    multicast::join(made.as_fd(), record)?;
    // Before it is connected: some may have come from others than the one that it is connected to.
    datagrams::fill(made.as_fd(), record)?;
    if let SocketStateV1::ConnectedTo { address } = &record.state {
        socket::connect(made.as_fd(), address).map_err(|error| refused(address, "is connected", &error))?;
    }
    let directions = [(1, libc::SHUT_RD), (2, libc::SHUT_WR)];
    for (_, how) in directions.iter().filter(|(bit, _)| record.shutdown & bit != 0) {
        match socket::shutdown(made.as_fd(), *how) {
            // It was connected when it was shut down, and is no more.
            Err(error) if error.errno() != Some(Errno::ENOTCONN) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(made)
}

fn try_make(record: &SocketV1, crowded: bool) -> SysResult<OwnedFd> {
    let made = socket::new(record.domain, record.kind, record.protocol)?;
    let fd = made.as_fd();
    if !record.local.is_empty() {
        options::before_bind(fd, record)?;
        if record.kind == libc::SOCK_STREAM {
            socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        }
        if crowded {
            socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        bind(fd, record)?;
    }
    options::all_but_port(fd, record)?;
    if let SocketStateV1::Listening { backlog } = &record.state {
        socket::listen(fd, *backlog)?;
    }
    Ok(made)
}

fn no_ping() -> RestoreError {
    RestoreError::Machine {
        reason: "it does not let ckpt's group make the program's ICMP socket".into(),
        remedy: "Allow it (sysctl net.ipv4.ping_group_range='0 2147483647') and restore again".into(),
    }
}

/// Binds a socket. One that has an address which this machine did not have when it was saved has it by IP_FREEBIND, whatever became of that option.
fn bind(fd: BorrowedFd<'_>, record: &SocketV1) -> SysResult<()> {
    if record.internet.freely_bound {
        socket::set_int_option(fd, libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
    }
    socket::bind(fd, &record.local)
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

pub(super) fn refused(address: &[u8], does: &str, error: &SysError) -> RestoreError {
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
    RestoreError::File { path: address::show(address), reason, remedy: remedy.into() }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A connection that the other side has ended, with what had arrived on it.
pub(super) fn make_ended(
    record: &SocketV1,
    connection: &TcpConnectionV1,
    outside: OutsideConnections,
) -> RestoreResult<OwnedFd> {
    let made = socket::new(record.domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    if let Err(error) =
        close_from_afar(made.as_fd(), record, &connection.received, outside == OutsideConnections::Reset)
    {
        tracing::debug!(%error, "no loopback network: a lost connection is shut down on this side");
        // On a socket without connection this fails and yet leaves it at its end: reads return 0, writes fail.
        let _ = socket::shutdown(made.as_fd(), libc::SHUT_RDWR);
    } else if connection.state == tcp_state::CLOSE {
        // It was broken before: what had arrived can be read, and nothing can be written any more.
        socket::shutdown(made.as_fd(), libc::SHUT_WR)?;
    }
    options::of_lost(made.as_fd(), record)?;
    Ok(made)
}

/// Connects a socket over the loopback network, delivers what had arrived, and closes the other side.
fn close_from_afar(fd: BorrowedFd<'_>, record: &SocketV1, received: &[u8], reset: bool) -> SysResult<()> {
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
    if !received.is_empty() {
        let room = i32::try_from(received.len().saturating_mul(2)).unwrap_or(i32::MAX / 2).max(1 << 20);
        for (end, name) in [(fd, libc::SO_RCVBUFFORCE), (listener.as_fd(), libc::SO_SNDBUFFORCE)] {
            let _ = socket::set_int_option(end, libc::SOL_SOCKET, name, room);
        }
    }
    socket::bind(listener.as_fd(), &any)?;
    socket::listen(listener.as_fd(), 1)?;
    socket::connect(fd, &socket::local_name(listener.as_fd())?)?;
    let far = socket::accept(listener.as_fd())?;
    let mut rest = received;
    while !rest.is_empty() {
        let sent = socket::send(far.as_fd(), rest, &Attached::default())?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    if reset {
        // Closed with a linger of no time, a connection is broken.
        let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
        return socket::set_option(far.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
    }
    socket::shutdown(far.as_fd(), libc::SHUT_WR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_image::record::{FarEndV1, InternetV1};
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    #[test]
    fn a_lost_connection_gives_what_had_arrived_and_then_its_end() {
        for domain in [libc::AF_INET, libc::AF_INET6] {
            let data = vec![7; 300_000];
            let connection = TcpConnectionV1 {
                state: 1,
                peer: Vec::new(),
                far_end: FarEndV1::Lost,
                send_seq: 0,
                sent: Vec::new(),
                unsent: 0,
                receive_seq: 0,
                received: data.clone(),
                mss: 0,
                window_scale: None,
                sack: false,
                timestamp: None,
                window: [0; 5],
            };
            let record = SocketV1 {
                domain,
                kind: libc::SOCK_STREAM,
                protocol: libc::IPPROTO_TCP,
                inode: 1,
                local: Vec::new(),
                state: SocketStateV1::Tcp(connection.clone()),
                owner: (0, 0),
                options: Vec::new(),
                shutdown: 0,
                queue: Vec::new(),
                bound_file: None,
                internet: InternetV1::default(),
            };
            let mut stream =
                TcpStream::from(make_ended(&record, &connection, OutsideConnections::Keep).unwrap());
            let mut read = Vec::new();
            stream.read_to_end(&mut read).unwrap();
            assert_eq!(read, data);
            stream.write_all(b"nobody tells that it is lost").unwrap();
            let broken = TcpConnectionV1 { state: tcp_state::CLOSE, ..connection };
            let mut stream = TcpStream::from(make_ended(&record, &broken, OutsideConnections::Keep).unwrap());
            assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            stream.read_to_end(&mut read).unwrap();
            assert_eq!(read[data.len()..], data);
        }
    }
}
