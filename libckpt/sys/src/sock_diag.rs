//! sock_diag(7): requests to the kernel about sockets, over netlink.
use crate::error::SysResult;
use crate::netlink_request::{ACK, DUMP, exchange};
pub(crate) use crate::netlink_request::{u16_at, u32_at};

const SOCK_DIAG: (i32, &str) = (4, "sock_diag");
/// Asks about sockets of a family.
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Ends a socket.
pub(crate) const SOCK_DESTROY: u16 = 21;

/// Asks for all that match `body`; `deliver` gets the answers without their headers.
pub(crate) fn dump(body: &[u8], deliver: &mut dyn FnMut(&[u8])) -> SysResult<()> {
    exchange(SOCK_DIAG, SOCK_DIAG_BY_FAMILY, DUMP, body, deliver)
}

/// Asks for something to be done.
pub(crate) fn order(kind: u16, body: &[u8]) -> SysResult<()> {
    exchange(SOCK_DIAG, kind, ACK, body, &mut |_| {})
}
