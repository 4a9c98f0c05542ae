//! Filters of sockets: attached when what had passed them is in the queues again.
use ckpt_image::record::SocketV1;
use ckpt_sys::SysResult;
use ckpt_sys::socket::set_option;
use ckpt_sys::socket_filter::{self, SO_ATTACH_FILTER, SO_LOCK_FILTER};
use std::os::fd::BorrowedFd;

/// Whether an option is about the filter.
pub(super) fn is_about(option: (i32, i32)) -> bool {
    option == (libc::SOL_SOCKET, SO_ATTACH_FILTER) || option == (libc::SOL_SOCKET, SO_LOCK_FILTER)
}

/// Attaches the filter that a socket had, and locks it.
pub(super) fn attach(fd: BorrowedFd<'_>, socket: &SocketV1) -> SysResult<()> {
    for (level, name, value) in socket.options.iter().filter(|(level, name, _)| is_about((*level, *name))) {
        match *name {
            SO_ATTACH_FILTER => socket_filter::attach(fd, value)?,
            _ => set_option(fd, *level, *name, value)?,
        }
    }
    Ok(())
}
