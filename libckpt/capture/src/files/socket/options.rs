//! Socket options that getsockopt(2) tells and setsockopt(2) takes back in the same form.
use crate::error::CaptureResult;
use ckpt_image::record::SocketV1;
use ckpt_sys::socket::{int_option, option};
use std::os::fd::BorrowedFd;

const INT: usize = 4;
const TIMEVAL: usize = 16;
const NAME: usize = 16;
const SO_BUF_LOCK: i32 = 72;

/// Level, name, bytes at most.
type Table = &'static [(i32, i32, usize)];

/// For TCP and UDP.
const COMMON: Table = &[
    (libc::SOL_SOCKET, libc::SO_REUSEADDR, INT),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT, INT),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE, INT),
    (libc::SOL_SOCKET, libc::SO_BROADCAST, INT),
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
];

/// For AF_UNIX.
const UNIX: Table = &[
    (libc::SOL_SOCKET, libc::SO_REUSEADDR, INT),
    (libc::SOL_SOCKET, libc::SO_LINGER, 8),
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
];

/// For UDP: UDP_CORK, UDP_SEGMENT, UDP_GRO.
const UDP: Table =
    &[(libc::IPPROTO_UDP, 1, INT), (libc::IPPROTO_UDP, 103, INT), (libc::IPPROTO_UDP, 104, INT)];

/// Reads the options of a socket. Buffer sizes are among them only where the program has set them, as the kernel
/// tells them: twice what was asked for.
pub(super) fn read_options(fd: BorrowedFd<'_>, socket: &SocketV1) -> CaptureResult<Vec<(i32, i32, Vec<u8>)>> {
    let tables: &[Table] = match (socket.domain, socket.kind) {
        (libc::AF_INET, libc::SOCK_STREAM) => &[COMMON, IPV4, TCP],
        (libc::AF_INET6, libc::SOCK_STREAM) => &[COMMON, IPV6, IPV4, TCP],
        (libc::AF_INET, _) => &[COMMON, IPV4, MULTICAST4, UDP],
        (libc::AF_INET6, _) => &[COMMON, IPV6, MULTICAST6, IPV4, MULTICAST4, UDP],
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
