//! Socket options that getsockopt(2) tells and setsockopt(2) takes back in the same form.
use crate::error::CaptureResult;
use ckpt_image::record::SocketV1;
use ckpt_sys::netlink::SOL_NETLINK;
use ckpt_sys::socket::{self, int_option, option};
use std::os::fd::{AsFd, BorrowedFd};

const INT: usize = 4;
const TIMEVAL: usize = 16;
const NAME: usize = 16;
/// An extension header of IPv6.
const HEADER: usize = 2048;
const SO_BUF_LOCK: i32 = 72;

/// Two keys of TCP Fast Open.
const FAST_OPEN_KEYS: usize = 32;
/// What can be set only while there is no connection.
const IDLE: [i32; 4] =
    [libc::TCP_MAXSEG, libc::TCP_FASTOPEN, libc::TCP_FASTOPEN_CONNECT, libc::TCP_FASTOPEN_NO_COOKIE];

/// Level, name, bytes at most.
type Table = &'static [(i32, i32, usize)];

/// For TCP and UDP.
const COMMON: Table = &[
    (libc::SOL_SOCKET, libc::SO_REUSEADDR, INT),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT, INT),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE, INT),
    (libc::SOL_SOCKET, libc::SO_BROADCAST, INT),
    (libc::SOL_SOCKET, libc::SO_NO_CHECK, INT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, INT),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE, INT),
    (libc::SOL_SOCKET, libc::SO_PRIORITY, INT),
    (libc::SOL_SOCKET, libc::SO_LINGER, 8),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT, INT),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO, TIMEVAL),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO, TIMEVAL),
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE, NAME),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP, INT),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, INT),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPING, INT),
    (libc::SOL_SOCKET, libc::SO_MARK, INT),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, INT),
    (libc::SOL_SOCKET, libc::SO_PEEK_OFF, INT),
    (libc::SOL_SOCKET, libc::SO_SELECT_ERR_QUEUE, INT),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL, INT),
    (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, 8),
    (libc::SOL_SOCKET, libc::SO_ZEROCOPY, INT),
    (libc::SOL_SOCKET, libc::SO_TXTIME, 8),
    (libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, INT),
    (libc::SOL_SOCKET, libc::SO_NO_CHECK, INT),
    (libc::SOL_SOCKET, libc::SO_WIFI_STATUS, INT),
    (libc::SOL_SOCKET, libc::SO_NOFCS, INT),
    // Those with 64-bit times come after the others, which switch them off: SO_TIMESTAMPING_NEW, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW.
    (libc::SOL_SOCKET, 65, INT),
    (libc::SOL_SOCKET, 63, INT),
    (libc::SOL_SOCKET, 64, INT),
    // SO_RCVMARK, SO_RCVPRIORITY
    (libc::SOL_SOCKET, 75, INT),
    (libc::SOL_SOCKET, 82, INT),
];

/// For AF_UNIX.
const UNIX: Table = &[
    (libc::SOL_SOCKET, libc::SO_REUSEADDR, INT),
    (libc::SOL_SOCKET, libc::SO_LINGER, 8),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE, INT),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, INT),
    (libc::SOL_SOCKET, libc::SO_PRIORITY, INT),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT, INT),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO, TIMEVAL),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO, TIMEVAL),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP, INT),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, INT),
    (libc::SOL_SOCKET, libc::SO_PASSCRED, INT),
    (libc::SOL_SOCKET, libc::SO_PASSSEC, INT),
    (libc::SOL_SOCKET, libc::SO_MARK, INT),
    (libc::SOL_SOCKET, libc::SO_PEEK_OFF, INT),
    // SO_PASSPIDFD
    (libc::SOL_SOCKET, 76, INT),
    // SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW
    (libc::SOL_SOCKET, 63, INT),
    (libc::SOL_SOCKET, 64, INT),
];

/// For AF_INET, and AF_INET6 sockets that speak IPv4 too.
const IPV4: Table = &[
    (libc::IPPROTO_IP, libc::IP_TOS, INT),
    (libc::IPPROTO_IP, libc::IP_TTL, INT),
    (libc::IPPROTO_IP, libc::IP_PKTINFO, INT),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, INT),
    (libc::IPPROTO_IP, libc::IP_RECVERR, INT),
    (libc::IPPROTO_IP, libc::IP_RECVTTL, INT),
    (libc::IPPROTO_IP, libc::IP_RECVTOS, INT),
    (libc::IPPROTO_IP, libc::IP_FREEBIND, INT),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT, INT),
    (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR, INT),
    (libc::IPPROTO_IP, libc::IP_MINTTL, INT),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, INT),
    // IP_LOCAL_PORT_RANGE
    (libc::IPPROTO_IP, 51, INT),
    (libc::IPPROTO_IP, libc::IP_OPTIONS, 40),
    (libc::IPPROTO_IP, libc::IP_RECVOPTS, INT),
    (libc::IPPROTO_IP, libc::IP_RETOPTS, INT),
    (libc::IPPROTO_IP, libc::IP_PASSSEC, INT),
    (libc::IPPROTO_IP, libc::IP_CHECKSUM, INT),
    (libc::IPPROTO_IP, libc::IP_RECVFRAGSIZE, INT),
    // IP_RECVERR_RFC4884
    (libc::IPPROTO_IP, 26, INT),
    (libc::IPPROTO_IP, libc::IP_UNICAST_IF, INT),
];

/// For AF_INET6.
const IPV6: Table = &[
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, INT),
    // IPV6_AUTOFLOWLABEL, IPV6_MINHOPCOUNT
    (libc::IPPROTO_IPV6, 70, INT),
    (libc::IPPROTO_IPV6, 73, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPOPTS, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVRTHDR, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVDSTOPTS, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPATHMTU, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVFRAGSIZE, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_ADDR_PREFERENCES, INT),
    // IPV6_2292PKTINFO, HOPOPTS, DSTOPTS, RTHDR, HOPLIMIT
    (libc::IPPROTO_IPV6, 2, INT),
    (libc::IPPROTO_IPV6, 3, INT),
    (libc::IPPROTO_IPV6, 4, INT),
    (libc::IPPROTO_IPV6, 5, INT),
    (libc::IPPROTO_IPV6, 8, INT),
    // IPV6_FLOWINFO, IPV6_RECVERR_RFC4884, IPV6_FLOWINFO_SEND
    (libc::IPPROTO_IPV6, 11, INT),
    (libc::IPPROTO_IPV6, 31, INT),
    (libc::IPPROTO_IPV6, 33, INT),
    // IPV6_UNICAST_IF
    (libc::IPPROTO_IPV6, 76, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS, HEADER),
    (libc::IPPROTO_IPV6, libc::IPV6_RTHDRDSTOPTS, HEADER),
    (libc::IPPROTO_IPV6, libc::IPV6_RTHDR, HEADER),
    (libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, HEADER),
];

/// For what is not a stream. A stream socket shows some of them too (one that was accepted, those of its listener's packets), but
/// does not take them.
const MULTICAST4: Table = &[
    (libc::IPPROTO_IP, libc::IP_MULTICAST_IF, INT),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, INT),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, INT),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, INT),
];
const MULTICAST6: Table = &[
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, INT),
    // IPV6_MULTICAST_ALL
    (libc::IPPROTO_IPV6, 29, INT),
];

/// For TCP.
const TCP: Table = &[
    (libc::IPPROTO_TCP, libc::TCP_NODELAY, INT),
    (libc::IPPROTO_TCP, libc::TCP_CORK, INT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, INT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, INT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, INT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT, INT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2, INT),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, INT),
    (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, INT),
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION, NAME),
    (libc::IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, INT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, INT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN, INT),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, INT),
    (libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, INT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, INT),
    (libc::IPPROTO_TCP, libc::TCP_INQ, INT),
    // TCP_FASTOPEN_NO_COOKIE, TCP_TX_DELAY, TCP_RTO_MAX_MS, TCP_RTO_MIN_US, TCP_DELACK_MAX_US
    (libc::IPPROTO_TCP, 34, INT),
    (libc::IPPROTO_TCP, 37, INT),
    (libc::IPPROTO_TCP, 44, INT),
    (libc::IPPROTO_TCP, 45, INT),
    (libc::IPPROTO_TCP, 46, INT),
];

/// For UDP and UDP-Lite: UDP_CORK, UDP_ENCAP, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, UDP_SEGMENT, UDP_GRO; UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV.
const UDP: Table = &[
    (libc::IPPROTO_UDP, 1, INT),
    (libc::IPPROTO_UDP, 100, INT),
    (libc::IPPROTO_UDP, 101, INT),
    (libc::IPPROTO_UDP, 102, INT),
    (libc::IPPROTO_UDP, 103, INT),
    (libc::IPPROTO_UDP, 104, INT),
    (libc::IPPROTO_UDPLITE, 10, INT),
    (libc::IPPROTO_UDPLITE, 11, INT),
];

/// For raw sockets: IP_HDRINCL, IP_NODEFRAG, ICMP_FILTER.
const RAW4: Table = &[
    (libc::IPPROTO_IP, libc::IP_HDRINCL, INT),
    (libc::IPPROTO_IP, libc::IP_NODEFRAG, INT),
    (libc::IPPROTO_RAW, 1, INT),
];
/// IPV6_CHECKSUM, ICMPV6_FILTER.
const RAW6: Table = &[
    (libc::IPPROTO_RAW, 7, INT),
    (libc::IPPROTO_IPV6, libc::IPV6_HDRINCL, INT),
    (libc::IPPROTO_ICMPV6, 1, 32),
];

/// For netlink: NETLINK_PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, LISTEN_ALL_NSID, CAP_ACK, EXT_ACK, GET_STRICT_CHK.
const NETLINK: Table = &[
    (SOL_NETLINK, 3, INT),
    (SOL_NETLINK, 4, INT),
    (SOL_NETLINK, 5, INT),
    (SOL_NETLINK, 8, INT),
    (SOL_NETLINK, 10, INT),
    (SOL_NETLINK, 11, INT),
    (SOL_NETLINK, 12, INT),
    (libc::SOL_SOCKET, libc::SO_PASSCRED, INT),
    (libc::SOL_SOCKET, libc::SO_PASSSEC, INT),
];

/// For AF_PACKET, in the order in which they depend on each other.
const PACKET: Table = &[
    (libc::SOL_PACKET, libc::PACKET_VERSION, INT),
    (libc::SOL_PACKET, libc::PACKET_RESERVE, INT),
    (libc::SOL_PACKET, libc::PACKET_COPY_THRESH, INT),
    (libc::SOL_PACKET, libc::PACKET_AUXDATA, INT),
    (libc::SOL_PACKET, libc::PACKET_ORIGDEV, INT),
    (libc::SOL_PACKET, libc::PACKET_LOSS, INT),
    (libc::SOL_PACKET, libc::PACKET_VNET_HDR, INT),
    (libc::SOL_PACKET, libc::PACKET_TIMESTAMP, INT),
    (libc::SOL_PACKET, libc::PACKET_TX_HAS_OFF, INT),
    (libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, INT),
    // PACKET_IGNORE_OUTGOING, PACKET_VNET_HDR_SZ
    (libc::SOL_PACKET, 23, INT),
    (libc::SOL_PACKET, 24, INT),
];

/// Reads the options of a socket. Buffer sizes are among them only where the program has set them, as the kernel
/// tells them: twice what was asked for.
pub(super) fn read_options(fd: BorrowedFd<'_>, socket: &SocketV1) -> CaptureResult<Vec<(i32, i32, Vec<u8>)>> {
    let tables: &[Table] = match (socket.domain, socket.kind) {
        (libc::AF_INET, libc::SOCK_STREAM) => &[COMMON, IPV4, TCP],
        (libc::AF_INET6, libc::SOCK_STREAM) => &[COMMON, IPV6, IPV4, TCP],
        (libc::AF_INET, libc::SOCK_RAW) => &[COMMON, IPV4, MULTICAST4, RAW4],
        (libc::AF_INET6, libc::SOCK_RAW) => &[COMMON, IPV6, MULTICAST6, RAW6],
        (libc::AF_INET, _) => &[COMMON, IPV4, MULTICAST4, UDP],
        (libc::AF_INET6, _) => &[COMMON, IPV6, MULTICAST6, IPV4, MULTICAST4, UDP],
        (libc::AF_NETLINK, _) => &[COMMON, NETLINK],
        (libc::AF_PACKET, _) => &[COMMON, PACKET],
        _ => &[UNIX],
    };
    let mut options = Vec::new();
    for &(level, name, max) in tables.iter().copied().flatten() {
        if let Some(value) = option(fd, level, name, max)? {
            options.push((level, name, value));
        }
    }
    let locked = int_option(fd, libc::SOL_SOCKET, SO_BUF_LOCK)?.unwrap_or(0);
    for (bit, name) in [(1, libc::SO_SNDBUF), (2, libc::SO_RCVBUF)] {
        if locked & bit != 0
            && let Some(value) = option(fd, libc::SOL_SOCKET, name, INT)?
        {
            options.push((libc::SOL_SOCKET, name, value));
        }
    }
    Ok(options)
}

/// Adds what a TCP socket tells of itself only while it has no connection.
pub(super) fn add_idle(fd: BorrowedFd<'_>, options: &mut Vec<(i32, i32, Vec<u8>)>) -> CaptureResult<()> {
    for name in IDLE {
        if let Some(value) = option(fd, libc::IPPROTO_TCP, name, INT)? {
            options.push((libc::IPPROTO_TCP, name, value));
        }
    }
    // Of those that ask for it: who has set no key has the machine's.
    if int_option(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN)?.unwrap_or(0) != 0 {
        let key = |fd| option(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_KEY, FAST_OPEN_KEYS);
        let fresh = socket::new(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
        let (own, common) = (key(fd)?, key(fresh.as_fd())?);
        if let Some(own) = own.filter(|own| !own.is_empty() && common.as_ref() != Some(own)) {
            options.push((libc::IPPROTO_TCP, libc::TCP_FASTOPEN_KEY, own));
        }
    }
    Ok(())
}

/// Adds the sizes of both buffers, which grow by themselves as a connection needs them, and whether the program has set them.
pub(super) fn add_buffers(fd: BorrowedFd<'_>, options: &mut Vec<(i32, i32, Vec<u8>)>) -> CaptureResult<()> {
    for name in [libc::SO_SNDBUF, libc::SO_RCVBUF, SO_BUF_LOCK] {
        options.retain(|(level, known, _)| (*level, *known) != (libc::SOL_SOCKET, name));
        if let Some(value) = option(fd, libc::SOL_SOCKET, name, INT)? {
            options.push((libc::SOL_SOCKET, name, value));
        }
    }
    Ok(())
}
