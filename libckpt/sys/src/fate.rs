//! A process that is killed when this one dies: by the kernel, and before a descriptor that it must not outlive is closed.
//!
//! When the one end of a pipe is closed, the kernel sends the signal that the other end's owner has asked for (F_SETSIG) to whom it has named (F_SETOWN).
//! A process that dies closes its descriptors in the order of their numbers. So one end has a low number, the other a high one, and the
//! descriptors in between are closed when the signal has been sent, whichever end comes first.
use crate::descriptor::{self, OWNER_PROCESS, Owner};
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Numbers of all descriptors that this uses, if the limit allows.
const NUMBERS: u64 = 24_000;

/// Where the numbers of descriptors are, in this process.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    third: RawFd,
}

/// A process that dies with this one, as long as this is kept.
#[derive(Debug)]
pub struct Fate {
    low: OwnedFd,
    high: OwnedFd,
}

impl Drop for Fate {
    fn drop(&mut self) {
        for fd in [self.low.as_fd(), self.high.as_fd()] {
            if let Err(error) = descriptor::set_flags(fd, libc::O_NONBLOCK) {
                tracing::error!(%error, "a process is killed with whoever was to fill its memory");
            }
        }
    }
}

impl Numbers {
    /// Raises the limit of this process to what it may.
    #[must_use]
    pub fn arrange() -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((256, 256));
        let wanted = hard.min(NUMBERS);
        let limit = match setrlimit(Resource::RLIMIT_NOFILE, wanted.max(soft), hard) {
            Ok(()) => wanted.max(soft).min(NUMBERS),
            Err(_) => soft.min(NUMBERS),
        };
        Self { third: RawFd::try_from(limit / 3).unwrap_or(80) }
    }

    /// Makes room for those numbers in this process's table of descriptors. To be called before it is shared with another process: the kernel makes a table longer
    /// at once then, and else only when each processor has passed a point of rest, after many milliseconds.
    pub fn make_room(self) {
        const MORE: RawFd = 256;
        if let Ok(any) = nix::unistd::dup(std::io::stderr()) {
            // What there is no room for is made later.
            drop(duplicate(any.as_fd(), 2 * self.third + MORE));
        }
    }

    /// Gives a descriptor a number between those of the ends of every [`Fate`].
    ///
    /// # Errors
    /// There are too many.
    pub fn between(self, fd: OwnedFd) -> SysResult<OwnedFd> {
        duplicate(fd.as_fd(), self.third)
    }

    /// Has process `pid` killed (SIGKILL) when the last process dies that has the descriptors of this one.
    ///
    /// # Errors
    /// There are too many descriptors; the process is gone.
    pub fn bind(self, pid: i32) -> SysResult<Fate> {
        let (low, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .map_err(|errno| SysError::new("pipe2", format!("pid {pid}"), errno))?;
        if low.as_raw_fd() >= self.third {
            return Err(SysError::new("pipe2", format!("pid {pid}"), Errno::EMFILE));
        }
        let high = duplicate(end.as_fd(), 2 * self.third)?;
        drop(end);
        let fate = Fate { low, high };
        for fd in [fate.low.as_fd(), fate.high.as_fd()] {
            let owner = Owner { kind: OWNER_PROCESS, id: pid };
            descriptor::set_owner(fd, owner)?;
            descriptor::set_owner_signal(fd, libc::SIGKILL)?;
            descriptor::set_flags(fd, libc::O_ASYNC | libc::O_NONBLOCK)?;
        }
        Ok(fate)
    }
}

fn duplicate(fd: BorrowedFd<'_>, from: RawFd) -> SysResult<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(from))
        .map_err(|errno| SysError::new("fcntl(F_DUPFD_CLOEXEC)", format!("fd {}", fd.as_raw_fd()), errno))?;
    // SAFETY: the kernel has just returned it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes all descriptors of this process but these, for a child that goes on with nothing of its parent's.
///
/// # Safety
/// Nothing that owns another descriptor is used or dropped from now on.
pub unsafe fn close_others(kept: &[RawFd]) {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut next = 0;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if next < fd {
            // SAFETY: no pointers; the caller answers for the descriptors.
            unsafe { libc::close_range(next, fd - 1, 0) };
        }
        next = fd.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    #[test]
    fn a_process_dies_with_the_one_that_has_its_fate() {
        let child = |main: &dyn Fn()| -> Pid {
            // SAFETY: what is done in the child takes no lock that another thread of the test could hold.
            match unsafe { spawn::fork_alone(0, None) }.unwrap() {
                Some(pid) => Pid::from_raw(pid),
                None => {
                    main();
                    loop {
                        nix::unistd::pause();
                    }
                }
            }
        };
        let bound = child(&|| {});
        let (ready, tell) = nix::unistd::pipe().unwrap();
        let holder = child(&|| {
            let fate = Numbers { third: 300 }.bind(bound.as_raw());
            let word = if fate.is_ok() { b"y" } else { b"n" };
            let _ = nix::unistd::write(&tell, word);
            std::mem::forget(fate);
        });
        let mut word = [0];
        nix::unistd::read(&ready, &mut word).unwrap();
        assert_eq!(&word, b"y");
        kill(holder, Signal::SIGKILL).unwrap();
        assert_eq!(waitpid(bound, None).unwrap(), WaitStatus::Signaled(bound, Signal::SIGKILL, false));
        waitpid(holder, None).unwrap();
    }
}
