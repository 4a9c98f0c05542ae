//! A TCP connection, made again by TCP_REPAIR: until the mode ends, nothing is sent, and closing the socket is silent.
use super::buffer::{Buffer, Room};
use super::{inet, options};
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{SocketV1, TcpConnectionV1};
use ckpt_sys::socket::{self, Attached};
use ckpt_sys::tcp_repair::{Agreed, Queue, Repair};
use ckpt_sys::{SysError, SysResult, inet_diag, sockaddr, tcp_state};
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that one call puts into a queue.
const CHUNK: usize = 64 << 10;

/// What a connection needs beyond its record when both of its ends are restored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    /// Sequence number of the first byte of `sent`.
    pub(super) send_seq: u32,
    /// What has been sent and may have arrived.
    pub(super) sent: &'a [u8],
    /// What is yet to be sent.
    pub(super) unsent: &'a [u8],
    /// `struct tcp_repair_window`.
    pub(super) window: [u32; 5],
}

impl<'a> Start<'a> {
    /// With `peer`, the other end, which is restored too: what has arrived there is done with, and the rest is sent at once.
    pub(super) fn of(connection: &'a TcpConnectionV1, peer: Option<&TcpConnectionV1>) -> RestoreResult<Self> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Some(peer) = peer else {
            let sent = connection.sent.len().saturating_sub(usize::try_from(connection.unsent).unwrap_or(0));
            let (sent, unsent) = connection.sent.split_at(sent);
            return Ok(Self { send_seq: connection.send_seq, sent, unsent, window: connection.window });
        };
        let expected = peer.receive_seq.wrapping_add(len(&peer.received));
        let arrived = expected.wrapping_sub(connection.send_seq);
        let unsent = usize::try_from(arrived).ok().and_then(|arrived| connection.sent.get(arrived..));
        let unsent = unsent.ok_or_else(|| RestoreError::Inconsistent {
            what: format!(
                "the two ends of a connection with {} do not fit",
                sockaddr::show(&connection.peer)
            ),
        })?;
        let [_, _, _, their_window, their_window_at] = peer.window;
        let [wl1, _, max, ours, ours_at] = connection.window;
        let room = their_window_at.wrapping_add(their_window).wrapping_sub(expected);
        // A window that has been taken back is none.
        let room = if room.cast_signed() < 0 { 0 } else { room };
        Ok(Self { send_seq: expected, sent: &[], unsent, window: [wl1, room, max.max(room), ours, ours_at] })
    }
}

/// Ends what is left, without any process, of a connection that is to be made again.
pub(super) fn clear(record: &SocketV1, connection: &TcpConnectionV1) {
    let (Some(local), Some(peer)) = (sockaddr::decode(&record.local), sockaddr::decode(&connection.peer))
    else {
        return;
    };
    let is = |ip: &[u8], port: u16, address: SocketAddr| {
        sockaddr::ip(ip).is_some_and(|ip| {
            sockaddr::unmapped(SocketAddr::new(ip, port)).ip() == sockaddr::unmapped(address).ip()
                && port == address.port()
        })
    };
    for family in [libc::AF_INET, libc::AF_INET6] {
        for left in inet_diag::orphans(family, local.port()).unwrap_or_default() {
            if is(left.local_address(), left.local_port(), local)
                && is(left.peer_address(), left.peer_port(), peer)
                && let Err(error) = left.destroy()
            {
                tracing::debug!(%error, "what is left of a connection cannot be ended");
            }
        }
    }
}

/// Makes a connection. Its socket stays in repair mode.
pub(super) fn make(
    record: &SocketV1,
    connection: &TcpConnectionV1,
    start: &Start<'_>,
) -> RestoreResult<OwnedFd> {
    let made = socket::new(record.domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    let fd = made.as_fd();
    // The mode takes SO_REUSEADDR for itself: that lets it share its port.
    options::before_bind(fd, record)?;
    let repair = Repair::begin(fd).map_err(|error| match error.errno() {
        Some(Errno::EPERM) => RestoreError::Machine {
            reason: "TCP connections are made again by TCP_REPAIR, which needs the capability CAP_NET_ADMIN"
                .into(),
            remedy: "Restore as root, or with --tcp close".into(),
        },
        _ => error.into(),
    })?;
    let refused = |error: &SysError| inet::refused(&record.local, "has a connection from", error);
    socket::bind(fd, &record.local).map_err(|error| refused(&error))?;
    repair.choose(Queue::Send)?;
    repair.set_sequence(start.send_seq)?;
    repair.choose(Queue::Receive)?;
    repair.set_sequence(connection.receive_seq)?;
    socket::connect(fd, &connection.peer).map_err(|error| refused(&error))?;
    repair.set_agreed(&Agreed {
        mss: connection.mss,
        window_scale: connection.window_scale,
        sack: connection.sack,
        timestamp: connection.timestamp,
    })?;
    let (receive, send) = (Room::make(fd, Buffer::Receive)?, Room::make(fd, Buffer::Send)?);
    repair.choose(Queue::Receive)?;
    fill(fd, &connection.received)?;
    repair.choose(Queue::Send)?;
    fill(fd, start.sent)?;
    repair.choose_none()?;
    repair.set_window(&window(connection, start))?;
    receive.end()?;
    send.end()?;
    options::all(fd, record)?;
    repair.leave();
    Ok(made)
}

/// The window as the kernel takes it: what was announced last cannot be ahead of what has arrived. The end of the stream, which is
/// one byte, arrives later.
fn window(connection: &TcpConnectionV1, start: &Start<'_>) -> [u32; 5] {
    let received = u32::try_from(connection.received.len()).unwrap_or(u32::MAX);
    let expected = connection.receive_seq.wrapping_add(received);
    let [wl1, send, max, receive, mut announced] = start.window;
    if announced.wrapping_sub(expected).cast_signed() > 0 {
        announced = expected;
    }
    let wl1 = if wl1.wrapping_sub(expected.wrapping_add(receive)).cast_signed() > 0 { expected } else { wl1 };
    [wl1, send, max.max(send), receive, announced]
}

fn fill(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> SysResult<()> {
    let mut chunk = CHUNK;
    while !bytes.is_empty() {
        match socket::send(fd, &bytes[..bytes.len().min(chunk)], &Attached::default()) {
            Ok(0) => return Err(SysError::new("send", "the queue of a connection", Errno::ENOBUFS)),
            Ok(taken) => bytes = &bytes[taken..],
            // Memory in pieces this large is short.
            Err(error) if error.errno() == Some(Errno::ENOMEM) && chunk > 1 => chunk /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets a connection that [`make`] has made go on.
pub(super) fn begin(fd: BorrowedFd<'_>, record: &SocketV1) -> SysResult<()> {
    let reuse = record
        .options
        .iter()
        .find(|(level, name, _)| (*level, *name) == (libc::SOL_SOCKET, libc::SO_REUSEADDR));
    let reuse =
        reuse.and_then(|(.., value)| value.first_chunk::<4>()).map_or(0, |value| i32::from_ne_bytes(*value));
    Repair::resume(fd, reuse).end(true)
}

/// Sends what was not sent yet, and the end of the stream if this side has closed.
pub(super) fn send_rest(fd: BorrowedFd<'_>, connection: &TcpConnectionV1, rest: &[u8]) -> SysResult<()> {
    if !rest.is_empty() {
        let room = Room::make(fd, Buffer::Send)?;
        let outcome = fill(fd, rest);
        room.end()?;
        outcome?;
    }
    if tcp_state::has_closed(connection.state) {
        socket::shutdown(fd, libc::SHUT_WR)?;
    }
    Ok(())
}
