//! Netlink sockets: netlink(7), and what sock_diag(7) tells of them.
use crate::error::SysResult;
use crate::sock_diag::{dump, u16_at, u32_at};
use crate::socket;
use std::os::fd::BorrowedFd;

/// Level of the options.
pub const SOL_NETLINK: i32 = 270;
/// Joins a group.
pub const NETLINK_ADD_MEMBERSHIP: i32 = 1;
const NETLINK_LIST_MEMBERSHIPS: i32 = 9;
/// NDIAG_SHOW_FLAGS.
const SHOW: u32 = 8;
const NETLINK_DIAG_FLAGS: u16 = 4;
const CB_RUNNING: u32 = 1;
/// Bytes of `struct netlink_diag_msg`.
const BODY: usize = 28;
/// Bytes that tell of so many groups as a family has.
const GROUPS_MAX: usize = 4096;

/// The numbers of the groups that a socket has joined.
pub fn groups(fd: BorrowedFd<'_>) -> SysResult<Vec<u32>> {
    let bits = socket::option(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, GROUPS_MAX)?.unwrap_or_default();
    let words = bits.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word));
    let numbers = words.zip(0u32..).flat_map(|(word, at)| {
        (0..32).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 32 + bit + 1)
    });
    Ok(numbers.collect())
}

/// Whether the kernel is in the middle of an answer of several parts to the socket of `protocol` with this inode.
pub fn is_being_answered(protocol: i32, inode: u64) -> SysResult<bool> {
    let byte = |value: i32| u8::try_from(value).unwrap_or(0);
    // struct netlink_diag_req: family, protocol, pad, inode, show, cookie.
    let mut request = vec![byte(libc::AF_NETLINK), byte(protocol), 0, 0];
    request.extend([0, SHOW, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()));
    let mut running = false;
    dump(&request, &mut |message| {
        if u32_at(message, 16).map(u64::from) == Some(inode) {
            running = flags(message).is_some_and(|flags| flags & CB_RUNNING != 0);
        }
    })?;
    Ok(running)
}

fn flags(message: &[u8]) -> Option<u32> {
    let mut rest = message.get(BODY..)?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0).map(usize::from), u16_at(rest, 2)) {
        if kind == NETLINK_DIAG_FLAGS {
            return u32_at(rest, 4);
        }
        rest = rest.get(len.next_multiple_of(4)..).filter(|_| len >= 4)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn groups_and_unfinished_answers_are_told() {
        let link = socket::new(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).unwrap();
        let fd = link.as_fd();
        assert_eq!(groups(fd).unwrap(), []);
        for group in [1, 5, 33] {
            socket::set_int_option(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group).unwrap();
        }
        assert_eq!(groups(fd).unwrap(), [1, 5, 33]);
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().ino();
        assert!(!is_being_answered(libc::NETLINK_ROUTE, inode).unwrap());
        // RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP
        let mut request = vec![20, 0, 0, 0, 18, 0, 1, 3];
        request.extend([0; 12]);
        socket::send(fd, &request, &socket::Attached::default()).unwrap();
        assert!(is_being_answered(libc::NETLINK_ROUTE, inode).unwrap());
    }
}
