//! pidfd_open(2), pidfd_getfd(2), kcmp(2).
use crate::error::{SysError, SysResult};
use crate::raw::syscall;
use std::cmp::Ordering;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const fn word(value: i32) -> u64 {
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

/// Orders two descriptors by their open file descriptions: equal when they share one (kcmp(2), KCMP_FILE).
pub fn compare_files(left: (i32, RawFd), right: (i32, RawFd)) -> SysResult<Ordering> {
    const KCMP_FILE: u64 = 0;
    let (a, b) = (u64::from(left.1.unsigned_abs()), u64::from(right.1.unsigned_abs()));
    // SAFETY: no pointers.
    match unsafe { syscall(libc::SYS_kcmp, [word(left.0), word(right.0), KCMP_FILE, a, b, 0]) } {
        Ok(0) => Ok(Ordering::Equal),
        Ok(1) => Ok(Ordering::Less),
        Ok(_) => Ok(Ordering::Greater),
        Err(errno) => {
            let object = format!("fd {} of pid {} and fd {} of pid {}", left.1, left.0, right.1, right.0);
            Err(SysError::new("kcmp(KCMP_FILE)", object, errno))
        }
    }
}

/// Compares a descriptor with what an epoll set watches: `epoll` holds `target` as the `offset`-th entry under that number
/// (kcmp(2), KCMP_EPOLL_TFD).
pub fn compare_epoll_target(
    file: (i32, RawFd),
    epoll: (i32, RawFd),
    target: RawFd,
    offset: u32,
) -> SysResult<Ordering> {
    const KCMP_EPOLL_TFD: u64 = 7;
    #[repr(C)]
    struct Slot {
        epoll: u32,
        target: u32,
        offset: u32,
    }
    let slot = Slot { epoll: epoll.1.unsigned_abs(), target: target.unsigned_abs(), offset };
    let at = u64::try_from((&raw const slot).expose_provenance()).unwrap_or(0);
    let args = [word(file.0), word(epoll.0), KCMP_EPOLL_TFD, u64::from(file.1.unsigned_abs()), at, 0];
    // SAFETY: `slot` is valid for the kernel to read.
    match unsafe { syscall(libc::SYS_kcmp, args) } {
        Ok(0) => Ok(Ordering::Equal),
        Ok(1) => Ok(Ordering::Less),
        Ok(_) => Ok(Ordering::Greater),
        Err(errno) => {
            Err(SysError::new("kcmp(KCMP_EPOLL_TFD)", format!("epoll fd {} target {target}", epoll.1), errno))
        }
    }
}
