//! IPsec: states and policies (NETLINK_XFRM, <linux/xfrm.h>).
use crate::error::SysResult;
use crate::netlink_request::{self, DUMP};
use nix::errno::Errno;

const NETLINK_XFRM: i32 = 6;
const XFRM_MSG_GETSA: u16 = 0x12;
const XFRM_MSG_GETPOLICY: u16 = 0x15;

/// How many states and policies this thread's network namespace has.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub fn counts() -> SysResult<(usize, usize)> {
    Ok((count(XFRM_MSG_GETSA)?, count(XFRM_MSG_GETPOLICY)?))
}

fn count(kind: u16) -> SysResult<usize> {
    let mut count = 0;
    let asked = netlink_request::exchange((NETLINK_XFRM, "xfrm"), kind, DUMP, &[], &mut |_| count += 1);
    match asked {
        // A kernel without it.
        Err(error) if error.errno() == Some(Errno::EPROTONOSUPPORT) => Ok(0),
        asked => asked.map(|()| count),
    }
}
