//! Filters of sockets: SO_ATTACH_FILTER and SO_GET_FILTER of socket(7).
use crate::error::{SysError, SysResult};
use crate::socket::set_option;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// SO_GET_FILTER, the same number as [`SO_ATTACH_FILTER`].
const SO_GET_FILTER: i32 = 26;
/// Attaches a filter.
pub const SO_ATTACH_FILTER: i32 = 26;
/// Keeps a filter from being changed or detached.
pub const SO_LOCK_FILTER: i32 = 44;
/// Bytes of `struct sock_filter`.
const BLOCK: usize = 8;

/// What filter a socket has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// None.
    None,
    /// A classic one: its `struct sock_filter`s.
    Classic(Vec<u8>),
    /// An eBPF program, which the kernel does not show.
    Opaque,
}

/// The filter that is attached to a socket.
pub fn get(fd: BorrowedFd<'_>) -> SysResult<Filter> {
    let mut blocks: libc::socklen_t = 0;
    match read(fd, &mut [], &mut blocks) {
        Ok(()) if blocks == 0 => return Ok(Filter::None),
        Ok(()) => {}
        Err(Errno::EACCES) => return Ok(Filter::Opaque),
        // A family without options of its own (AF_ALG).
        Err(_) => return Ok(Filter::None),
    }
    let mut program = vec![0; usize::try_from(blocks).unwrap_or(0) * BLOCK];
    read(fd, &mut program, &mut blocks).map_err(|errno| {
        SysError::new("getsockopt(SO_GET_FILTER)", format!("socket {}", fd.as_raw_fd()), errno)
    })?;
    Ok(Filter::Classic(program))
}

/// With a length of 0 the kernel only tells the number of blocks.
fn read(fd: BorrowedFd<'_>, room: &mut [u8], blocks: &mut libc::socklen_t) -> Result<(), Errno> {
    let at = if room.is_empty() { std::ptr::null_mut() } else { room.as_mut_ptr().cast() };
    // SAFETY: there is room for as many blocks.
    let outcome = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, SO_GET_FILTER, at, blocks) };
    Errno::result(outcome).map(drop)
}

/// Attaches a classic filter, of `struct sock_filter`s.
pub fn attach(fd: BorrowedFd<'_>, program: &[u8]) -> SysResult<()> {
    // struct sock_fprog: number of blocks, pointer.
    let blocks = u16::try_from(program.len() / BLOCK).unwrap_or(u16::MAX);
    let mut value = [0; 16];
    value[..2].copy_from_slice(&blocks.to_ne_bytes());
    value[8..].copy_from_slice(&program.as_ptr().expose_provenance().to_ne_bytes());
    set_option(fd, libc::SOL_SOCKET, SO_ATTACH_FILTER, &value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn a_filter_can_be_read_and_attached_elsewhere() {
        let [first, second] = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        assert_eq!(get(first.as_fd()).unwrap(), Filter::None);
        // ldh [0]; ret 65535
        let program = [[0x28, 0, 0, 0, 0, 0, 0, 0], [0x06, 0, 0, 0, 0xff, 0xff, 0, 0]].concat();
        attach(first.as_fd(), &program).unwrap();
        assert_eq!(get(first.as_fd()).unwrap(), Filter::Classic(program.clone()));
        attach(second.as_fd(), &program).unwrap();
        assert_eq!(get(second.as_fd()).unwrap(), Filter::Classic(program));
    }
}
