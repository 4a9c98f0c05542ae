//! Requests to the kernel over netlink(7), and its answers.
use crate::error::{SysError, SysResult};
use crate::netlink::SOL_NETLINK;
use crate::socket;
use nix::errno::Errno;
use std::os::fd::AsFd;

/// NLM_F_ACK.
pub(crate) const ACK: u16 = 4;
/// NLM_F_DUMP.
pub(crate) const DUMP: u16 = 0x300;
/// NLM_F_EXCL.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// NLM_F_CREATE.
pub(crate) const CREATE: u16 = 0x400;
/// NLM_F_REQUEST.
pub(crate) const REQUEST: u16 = 1;
/// The kind of a message that says how a request went.
pub(crate) const NLMSG_ERROR: u16 = 2;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSG_DONE: u16 = 3;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// A dump comes in messages of at most 32 KiB.
const ANSWER_MAX: usize = 64 << 10;

/// Sends one request to the part of the kernel that is called `name` in errors; `deliver` gets the answers without their headers.
pub(crate) fn exchange(
    (protocol, name): (i32, &'static str),
    kind: u16,
    flags: u16,
    body: &[u8],
    deliver: &mut dyn FnMut(&[u8]),
) -> SysResult<()> {
    let link = socket::new(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
    // Where the kernel says in words what is wrong; older ones do not.
    for option in [NETLINK_CAP_ACK, NETLINK_EXT_ACK] {
        let _ = socket::set_int_option(link.as_fd(), SOL_NETLINK, option, 1);
    }
    let len = HEADER + body.len();
    let mut request = Vec::with_capacity(len);
    request.extend(u32::try_from(len).unwrap_or(0).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]);
    request.extend_from_slice(body);
    socket::send(link.as_fd(), &request, &socket::Attached::default())?;
    while let Some(answer) = socket::receive(link.as_fd(), ANSWER_MAX, 0)? {
        if read_answer(&answer.data, name, deliver)? {
            break;
        }
    }
    Ok(())
}

/// Reads one datagram of the answer; whether it was the last.
fn read_answer(mut bytes: &[u8], name: &'static str, deliver: &mut dyn FnMut(&[u8])) -> SysResult<bool> {
    while let (Some(len), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let message = bytes.get(HEADER..len).unwrap_or_default();
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = u32_at(message, 0).map_or(0, u32::cast_signed).wrapping_neg();
                return match errno {
                    0 => Ok(true),
                    errno => Err(SysError::new(name, in_words(message), Errno::from_raw(errno))),
                };
            }
            _ => deliver(message),
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// NLMSGERR_ATTR_MSG, behind the error number and the request's header.
fn in_words(error: &[u8]) -> String {
    let rest = error.get(4 + HEADER..).unwrap_or_default();
    let is_text = u16_at(rest, 2) == Some(NLMSGERR_ATTR_MSG);
    let text = rest.get(4..usize::from(u16_at(rest, 0).unwrap_or(0))).filter(|_| is_text);
    text.map_or_else(
        || "netlink".into(),
        |text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned(),
    )
}

/// The 16-bit word at an offset.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The 32-bit word at an offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
