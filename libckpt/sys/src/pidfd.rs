//! pidfd_open(2), pidfd_getfd(2).
use crate::error::{SysError, SysResult};
use crate::raw::syscall;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub(crate) const fn word(value: i32) -> u64 {
    // Sign-extended, as the kernel takes an int from a register.
    (value as i64).cast_unsigned()
}

fn owned(value: u64) -> OwnedFd {
    let fd = RawFd::try_from(value).unwrap_or(-1);
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A descriptor that stands for process `pid`.
pub fn open(pid: i32) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_pidfd_open, [word(pid), 0, 0, 0, 0, 0]) }
        .map(owned)
        .map_err(|errno| SysError::new("pidfd_open", format!("pid {pid}"), errno))
}

/// A duplicate, in this process, of descriptor `fd` of the process behind `pidfd`: the same open file description.
pub fn getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_pidfd_getfd, [word(pidfd.as_raw_fd()), word(fd), 0, 0, 0, 0]) }
        .map(owned)
        .map_err(|errno| SysError::new("pidfd_getfd", format!("fd {fd}"), errno))
}

/// Whether the process behind `pidfd` has ended (it may still be a zombie).
#[must_use]
pub fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, no wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}
