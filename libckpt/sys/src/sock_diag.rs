//! sock_diag(7): requests to the kernel about sockets, over netlink.
use crate::error::{SysError, SysResult};
use crate::socket;
use nix::errno::Errno;
use std::os::fd::AsFd;

const NETLINK_SOCK_DIAG: i32 = 4;
/// Asks about sockets of a family.
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Ends a socket.
pub(crate) const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// A dump comes in messages of at most 32 KiB.
const ANSWER_MAX: usize = 64 << 10;

/// Asks for all that match `body`; `deliver` gets the answers without their headers.
pub(crate) fn dump(body: &[u8], deliver: &mut dyn FnMut(&[u8])) -> SysResult<()> {
    exchange(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, body, deliver)
}

/// Asks for something to be done.
pub(crate) fn order(kind: u16, body: &[u8]) -> SysResult<()> {
    exchange(kind, NLM_F_ACK, body, &mut |_| {})
}

fn exchange(kind: u16, flags: u16, body: &[u8], deliver: &mut dyn FnMut(&[u8])) -> SysResult<()> {
    let link = socket::new(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_SOCK_DIAG)?;
    let len = HEADER + body.len();
    let mut request = Vec::with_capacity(len);
    request.extend(u32::try_from(len).unwrap_or(0).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]);
    request.extend_from_slice(body);
    socket::send(link.as_fd(), &request, &socket::Attached::default())?;
    while let Some(answer) = socket::receive(link.as_fd(), ANSWER_MAX, 0)? {
        if read_answer(&answer.data, deliver)? {
            break;
        }
    }
    Ok(())
}

/// Reads one datagram of the answer; whether it was the last.
fn read_answer(mut bytes: &[u8], deliver: &mut dyn FnMut(&[u8])) -> SysResult<bool> {
    while let (Some(len), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let message = bytes.get(HEADER..len).unwrap_or_default();
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = u32_at(message, 0).map_or(0, u32::cast_signed).wrapping_neg();
                return match errno {
                    0 => Ok(true),
                    errno => Err(SysError::new("sock_diag", "sockets", Errno::from_raw(errno))),
                };
            }
            SOCK_DIAG_BY_FAMILY => deliver(message),
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The 16-bit word at an offset.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The 32-bit word at an offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
