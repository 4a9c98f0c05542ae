//! UDP datagrams that waited to be read: they arrive again, from where they came.
use super::buffer::{Buffer, Room};
use super::packet::{Envelope, Postman};
use crate::error::RestoreResult;
use ckpt_image::record::{InternetDatagramV1, SocketV1};
use ckpt_sys::sockaddr as address;
use ckpt_sys::{SysResult, inet_diag, socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

const SO_MEMINFO: i32 = 55;
/// How long datagrams may take within the machine.
const DEADLINE: Duration = Duration::from_secs(2);

/// Fills the queue of a socket that is bound, has its options, and is not connected yet.
pub(super) fn fill(fd: BorrowedFd<'_>, record: &SocketV1) -> RestoreResult<()> {
    let datagrams = &record.internet.datagrams;
    if datagrams.is_empty() {
        return Ok(());
    }
    let opened = Opened::new(fd)?;
    let mut postman = Postman::default();
    let shared = is_shared(&record.local);
    // What holds one up, a firewall or a full queue, holds up others.
    let mut late = Duration::ZERO;
    let lost = datagrams.iter().filter(|datagram| {
        let begin = Instant::now();
        let left = DEADLINE.saturating_sub(late);
        let delivered = deliver(fd, record, datagram, &mut postman, (shared, left));
        if !matches!(delivered, Ok(true)) {
            late += begin.elapsed();
        }
        if let Err(error) = &delivered {
            tracing::debug!(%error, "an unread datagram cannot be delivered");
        }
        !delivered.unwrap_or(false)
    });
    let lost = lost.count();
    opened.close()?;
    if lost > 0 {
        let socket = address::show(&record.local);
        tracing::warn!(
            socket,
            lost,
            of = datagrams.len(),
            "unread datagrams could not be put back into a UDP socket"
        );
    }
    Ok(())
}

/// Delivers a datagram; whether it has arrived in the socket.
fn deliver(
    fd: BorrowedFd<'_>,
    record: &SocketV1,
    datagram: &InternetDatagramV1,
    postman: &mut Postman,
    (shared, patience): (bool, Duration),
) -> RestoreResult<bool> {
    let (Some(from), Some(local)) = (address::decode(&datagram.from), address::decode(&record.local)) else {
        return Ok(false);
    };
    let from = address::unmapped(from);
    // Among several sockets with one address, the one that is connected to the sender gets it.
    let connected = shared && socket::connect(fd, &datagram.from).is_ok();
    let to = if connected {
        address::decode(&socket::local_name(fd)?).map(address::unmapped)
    } else {
        destination(datagram, local, from)
    };
    let outcome = to.filter(|to| !to.ip().is_multicast() && is_of_this_machine(*to)).map(|to| {
        let (hop_limit, traffic_class) = (datagram.hop_limit, datagram.traffic_class.unwrap_or(0));
        let before = memory_used(fd)?;
        postman.udp(&Envelope { from, to, hop_limit, traffic_class }, &datagram.data)?;
        let deadline = Instant::now() + patience;
        while memory_used(fd)? <= before {
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::yield_now();
        }
        Ok(true)
    });
    if connected {
        socket::connect(fd, &u16::to_ne_bytes(0).repeat(8))?;
    }
    outcome.unwrap_or(Ok(false))
}

/// The address of the machine to which a datagram is sent: as it was, if there still is that address and the socket takes it.
fn destination(datagram: &InternetDatagramV1, local: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
    let scope = |ip: IpAddr| match (SocketAddr::new(ip, local.port()), from) {
        (SocketAddr::V6(mut to), SocketAddr::V6(from)) => {
            to.set_scope_id(from.scope_id());
            SocketAddr::V6(to)
        }
        (to, _) => address::unmapped(to),
    };
    if !local.ip().is_unspecified() {
        return Some(address::unmapped(local));
    }
    let same_family = |to: &SocketAddr| to.is_ipv4() == from.is_ipv4();
    let loopback: IpAddr =
        if from.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let asked = datagram.to.as_deref().and_then(address::ip).map(scope);
    let asked = asked.filter(|to| same_family(to) && !to.ip().is_multicast() && is_of_this_machine(*to));
    asked.or(Some(SocketAddr::new(loopback, local.port())))
}

/// Whether an address is one of this machine's: nothing is ever sent elsewhere.
fn is_of_this_machine(address: SocketAddr) -> bool {
    let mut any_port = address;
    any_port.set_port(0);
    !address.ip().is_unspecified() && std::net::UdpSocket::bind(any_port).is_ok()
}

/// Whether more than one UDP socket has the port of an address. One that cannot be told is shared.
fn is_shared(local: &[u8]) -> bool {
    let Some(local) = address::decode(local) else { return false };
    let count = |family| inet_diag::sockets(family, libc::IPPROTO_UDP, local.port()).map(|found| found.len());
    count(libc::AF_INET).unwrap_or(2) + count(libc::AF_INET6).unwrap_or(0) > 1
}

/// What a socket's receive queue is charged with, bytes.
fn memory_used(fd: BorrowedFd<'_>) -> SysResult<u32> {
    let info = socket::option(fd, libc::SOL_SOCKET, SO_MEMINFO, 64)?.unwrap_or_default();
    Ok(info.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes)))
}

/// A socket that takes whatever arrives, from any device.
struct Opened<'a> {
    fd: BorrowedFd<'a>,
    device: Vec<u8>,
    room: Room<'a>,
}

impl<'a> Opened<'a> {
    fn new(fd: BorrowedFd<'a>) -> SysResult<Self> {
        let device = socket::option(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, 16)?.unwrap_or_default();
        if !device.is_empty() {
            socket::set_option(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"\0")?;
        }
        Ok(Self { fd, device, room: Room::make(fd, Buffer::Receive)? })
    }

    /// Makes it as it was.
    fn close(self) -> SysResult<()> {
        self.room.end()?;
        if self.device.is_empty() {
            return Ok(());
        }
        socket::set_option(self.fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_image::record::{InternetV1, SocketStateV1};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn received(bind: &str, from: &str, to: Option<&str>, sharing: bool) -> Vec<(Vec<u8>, SocketAddr)> {
        let domain = if bind.starts_with('[') { libc::AF_INET6 } else { libc::AF_INET };
        let made = socket::new(domain, libc::SOCK_DGRAM, 0).unwrap();
        // A port of its own choice would not stay with it.
        let port = UdpSocket::bind(bind).unwrap().local_addr().unwrap();
        let local = address::encode(port);
        socket::set_int_option(made.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
        socket::bind(made.as_fd(), &local).unwrap();
        let local = socket::local_name(made.as_fd()).unwrap();
        let other = socket::new(domain, libc::SOCK_DGRAM, 0).unwrap();
        if sharing {
            socket::set_int_option(other.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
            socket::bind(other.as_fd(), &local).unwrap();
        }
        let datagram = |data: &[u8]| InternetDatagramV1 {
            data: data.to_vec(),
            from: address::encode(from.parse().unwrap()),
            to: to.map(|to| match to.parse().unwrap() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            }),
            hop_limit: None,
            traffic_class: None,
        };
        let datagrams = [b"first".as_slice(), b"", &[7; 60_000], b"last"].map(datagram).to_vec();
        let record = SocketV1 {
            domain,
            kind: libc::SOCK_DGRAM,
            protocol: 0,
            inode: 1,
            local: local.clone(),
            state: SocketStateV1::Unconnected,
            owner: (0, 0),
            options: Vec::new(),
            shutdown: 0,
            queue: Vec::new(),
            bound_file: None,
            internet: InternetV1 { datagrams, ..InternetV1::default() },
        };
        fill(made.as_fd(), &record).unwrap();
        assert_eq!(socket::local_name(made.as_fd()).unwrap(), local, "its own name");
        let made = UdpSocket::from(made);
        made.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 1 << 16];
        std::iter::from_fn(|| {
            made.recv_from(&mut buffer).ok().map(|(len, from)| (buffer[..len].to_vec(), from))
        })
        .collect()
    }

    #[test]
    fn datagrams_arrive_again_from_any_source() {
        if !nix::unistd::geteuid().is_root() {
            return; // raw sockets are root's
        }
        for (bind, from, to, sharing) in [
            ("127.0.0.1:0", "127.0.0.1:9", None, false),
            ("127.0.0.1:0", "203.0.113.5:77", None, false),
            ("0.0.0.0:0", "203.0.113.5:77", Some("127.0.0.5"), false),
            ("0.0.0.0:0", "203.0.113.5:77", Some("198.51.100.1"), false),
            ("127.0.0.1:0", "127.0.0.1:9", None, true),
            ("[::1]:0", "[::1]:9", None, false),
            ("[::1]:0", "[2001:db8::5]:77", None, false),
            ("[::]:0", "[2001:db8::5]:77", None, false),
            ("[::]:0", "[::ffff:203.0.113.5]:77", None, false),
            ("[::1]:0", "[::1]:9", None, true),
        ] {
            if bind.starts_with('[') && UdpSocket::bind("[::1]:0").is_err() {
                continue;
            }
            let from_address: SocketAddr = from.parse().unwrap();
            let found = received(bind, from, to, sharing);
            let data: Vec<usize> = found.iter().map(|(data, _)| data.len()).collect();
            assert_eq!(data, [5, 0, 60_000, 4], "{bind} from {from} to {to:?}");
            assert!(found.iter().all(|(_, from)| *from == from_address), "{found:?}");
        }
    }
}
