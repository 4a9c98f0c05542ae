//! States of a TCP connection (include/net/tcp_states.h).
use crate::error::SysResult;
use crate::socket::option;
use std::os::fd::BorrowedFd;

/// Connected.
pub const ESTABLISHED: u8 = 1;
/// Connects.
pub const SYN_SENT: u8 = 2;
/// This side has closed, and the other has not acknowledged it.
pub const FIN_WAIT1: u8 = 4;
/// This side has closed.
pub const FIN_WAIT2: u8 = 5;
/// No connection.
pub const CLOSE: u8 = 7;
/// The other side has closed.
pub const CLOSE_WAIT: u8 = 8;
/// Both have closed, the other side first.
pub const LAST_ACK: u8 = 9;
/// Waits for connections.
pub const LISTEN: u8 = 10;
/// Both have closed at the same time.
pub const CLOSING: u8 = 11;

/// The state of a TCP socket; [`CLOSE`] if it does not tell.
pub fn of(fd: BorrowedFd<'_>) -> SysResult<u8> {
    let info = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 8)?.unwrap_or_default();
    Ok(info.first().copied().unwrap_or(CLOSE))
}

/// Whether there is a connection that can be kept, other than one that is still being made.
#[must_use]
pub fn is_connected(state: u8) -> bool {
    matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING)
}

/// Whether this side has closed.
#[must_use]
pub fn has_closed(state: u8) -> bool {
    matches!(state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING)
}

/// Whether the other side has closed.
#[must_use]
pub fn is_closed_by_peer(state: u8) -> bool {
    matches!(state, CLOSE_WAIT | LAST_ACK | CLOSING)
}
