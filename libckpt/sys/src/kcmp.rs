//! kcmp(2): whether processes share a resource of the kernel's.
use crate::error::{SysError, SysResult};
use crate::pidfd::word;
use crate::proc::stand_in::of;
use crate::raw::syscall;
use std::cmp::Ordering;
use std::os::fd::RawFd;

/// What clone(2) may have two tasks share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// The address space (CLONE_VM).
    Memory,
    /// The descriptor table (CLONE_FILES).
    Files,
    /// Working directory, root directory, umask (CLONE_FS).
    Fs,
    /// Signal actions (CLONE_SIGHAND).
    SignalActions,
    /// Undo lists of System V semaphores (CLONE_SYSVSEM).
    SemaphoreUndo,
}

impl Resource {
    /// KCMP_*.
    const fn kind(self) -> u64 {
        match self {
            Self::Memory => 1,
            Self::Files => 2,
            Self::Fs => 3,
            Self::SignalActions => 4,
            Self::SemaphoreUndo => 6,
        }
    }
}

/// Orders two tasks by a resource of theirs: equal when they share it.
pub fn compare(resource: Resource, left: i32, right: i32) -> SysResult<Ordering> {
    // SAFETY: no pointers.
    ordering(unsafe { syscall(libc::SYS_kcmp, [word(of(left)), word(of(right)), resource.kind(), 0, 0, 0]) })
        .map_err(|errno| SysError::new("kcmp", format!("{resource:?} of pid {left} and pid {right}"), errno))
}

fn ordering(answer: Result<u64, nix::errno::Errno>) -> Result<Ordering, nix::errno::Errno> {
    answer.map(|answer| match answer {
        0 => Ordering::Equal,
        1 => Ordering::Less,
        _ => Ordering::Greater,
    })
}

/// Orders two descriptors by their open file descriptions: equal when they share one (kcmp(2), KCMP_FILE).
pub fn compare_files(left: (i32, RawFd), right: (i32, RawFd)) -> SysResult<Ordering> {
    const KCMP_FILE: u64 = 0;
    let (a, b) = (u64::from(left.1.unsigned_abs()), u64::from(right.1.unsigned_abs()));
    // SAFETY: no pointers.
    ordering(unsafe { syscall(libc::SYS_kcmp, [word(of(left.0)), word(of(right.0)), KCMP_FILE, a, b, 0]) })
        .map_err(|errno| {
            let object = format!("fd {} of pid {} and fd {} of pid {}", left.1, left.0, right.1, right.0);
            SysError::new("kcmp(KCMP_FILE)", object, errno)
        })
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
    let args = [word(of(file.0)), word(of(epoll.0)), KCMP_EPOLL_TFD, u64::from(file.1.unsigned_abs()), at, 0];
    // SAFETY: `slot` is valid for the kernel to read.
    ordering(unsafe { syscall(libc::SYS_kcmp, args) }).map_err(|errno| {
        SysError::new("kcmp(KCMP_EPOLL_TFD)", format!("epoll fd {} target {target}", epoll.1), errno)
    })
}
