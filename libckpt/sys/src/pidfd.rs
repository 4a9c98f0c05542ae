//! pidfd_open(2), pidfd_getfd(2).
use crate::error::{SysError, SysResult};
use crate::proc::stand_in;
use crate::raw::syscall;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub(crate) const fn word(value: i32) -> u64 {
    // Sign-extended, as the kernel takes an int from a register.
    (value as i64).cast_unsigned()
}

pub(crate) fn owned(value: u64) -> OwnedFd {
    let fd = RawFd::try_from(value).unwrap_or(-1);
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// PIDFD_THREAD: the descriptor stands for the one thread.
pub const THREAD: i32 = libc::O_EXCL;

/// A descriptor that stands for process `pid`, or for the thread that stands in for it.
pub fn open(pid: i32) -> SysResult<OwnedFd> {
    match stand_in::of(pid) {
        tid if tid != pid => open_with(tid, THREAD),
        pid => open_with(pid, 0),
    }
}

/// As [`open`], with PIDFD_NONBLOCK (O_NONBLOCK) or [`THREAD`].
pub fn open_with(pid: i32, flags: i32) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_pidfd_open, [word(pid), word(flags), 0, 0, 0, 0]) }
        .map(owned)
        .map_err(|errno| SysError::new("pidfd_open", format!("pid {pid}"), errno))
}

/// A descriptor that stands for process `id` or, if there is none of this id, for the thread `id` alone: what [`getfd`] takes from is its table.
pub fn open_task(id: i32) -> SysResult<OwnedFd> {
    open(id).or_else(|_| open_with(id, THREAD))
}

/// A duplicate, in this process, of descriptor `fd` of the process behind `pidfd`: the same open file description.
pub fn getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_pidfd_getfd, [word(pidfd.as_raw_fd()), word(fd), 0, 0, 0, 0]) }
        .map(owned)
        .map_err(|errno| SysError::new("pidfd_getfd", format!("fd {fd}"), errno))
}

/// The exit status, as wait(2) has it, of a process that has ended and was waited for; None: the kernel does not tell (before Linux 6.15).
#[must_use]
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // struct pidfd_info: mask, cgroup id, then 32-bit words, the exit status last.
    let mut info = [PIDFD_INFO_EXIT, 0, 0, 0, 0, 0, 0, 0u64];
    // SAFETY: `info` has the 64 bytes that are part of the request's number.
    let outcome = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) };
    let status = u32::try_from(info[7] >> 32).unwrap_or(0).cast_signed();
    (outcome == 0 && info[0] & PIDFD_INFO_EXIT != 0).then_some(status)
}

/// Whether the process behind `pidfd` has ended (it may still be a zombie).
#[must_use]
pub fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, no wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// The pid of the process behind `pidfd`, a descriptor of this process, as /proc has it here; None: it is no pidfd, or its process has ended.
#[must_use]
pub fn pid(pidfd: RawFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{pidfd}")).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (pid > 0).then_some(pid)
}
