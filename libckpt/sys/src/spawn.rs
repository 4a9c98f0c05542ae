//! clone3(2): a process or thread with an id of the caller's choice.
use crate::error::{SysError, SysResult};
use crate::pidfd::owned;
use crate::raw::syscall;
use std::os::fd::OwnedFd;

/// `struct clone_args`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// Bytes of [`CloneArgs`].
pub const CLONE_ARGS_SIZE: u64 = 88;
const _: () = assert!(size_of::<CloneArgs>() == 88);

impl CloneArgs {
    /// The structure's bytes, for a copy in another process.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [
            self.flags,
            self.pidfd,
            self.child_tid,
            self.parent_tid,
            self.exit_signal,
            self.stack,
            self.stack_size,
            self.tls,
            self.set_tid,
            self.set_tid_size,
            self.cgroup,
        ]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
    }
}

/// Makes a child process with process id `pid` that does nothing but wait to be seized, and dies with the thread that made it.
///
/// # Errors
/// EEXIST: the pid is taken. EPERM: neither root nor CAP_CHECKPOINT_RESTORE.
pub fn waiting_child(pid: i32) -> SysResult<i32> {
    let set_tid = [pid];
    let mut args = CloneArgs {
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        set_tid: u64::try_from(set_tid.as_ptr().expose_provenance()).unwrap_or(0),
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    let at = u64::try_from((&raw mut args).expose_provenance()).unwrap_or(0);
    // SAFETY: `args` is laid out as the kernel's structure, with its size. The child has a copy of our memory and makes only
    // system calls that need no lock of another thread.
    match unsafe { syscall(libc::SYS_clone3, [at, CLONE_ARGS_SIZE, 0, 0, 0, 0]) } {
        Ok(0) => loop {
            // SAFETY: no pointers.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
            }
        },
        Ok(child) => Ok(i32::try_from(child).unwrap_or(pid)),
        Err(errno) => Err(SysError::new("clone3(set_tid)", format!("pid {pid}"), errno)),
    }
}

/// A descriptor that stands for a process that has ended with `status`, as wait(2) has it, and was waited for.
pub fn ended_child(status: i32) -> SysResult<OwnedFd> {
    let mut pidfd = -1i32;
    let at = (&raw mut pidfd).expose_provenance();
    // No exit signal: nobody but us is to hear of it.
    let mut args = CloneArgs {
        flags: u64::from(libc::CLONE_PIDFD.unsigned_abs()),
        pidfd: u64::try_from(at).unwrap_or(0),
        ..CloneArgs::default()
    };
    let at = u64::try_from((&raw mut args).expose_provenance()).unwrap_or(0);
    // SAFETY: `args` is laid out as the kernel's structure, with its size, and has room for the descriptor. The child has a copy of our memory and makes only
    // system calls that need no lock of another thread.
    match unsafe { syscall(libc::SYS_clone3, [at, CLONE_ARGS_SIZE, 0, 0, 0, 0]) } {
        Ok(0) => end(status),
        Ok(child) => {
            let child = i32::try_from(child).unwrap_or(0);
            let fd = owned(u64::from(pidfd.unsigned_abs()));
            // SAFETY: no pointers but a null one; the child is ours.
            while unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) } == -1 {
                let error = SysError::last("waitpid", format!("pid {child}"));
                if error.errno() != Some(nix::errno::Errno::EINTR) {
                    return Err(error);
                }
            }
            Ok(fd)
        }
        Err(errno) => Err(SysError::new("clone3(CLONE_PIDFD)", "a process that ends", errno)),
    }
}

/// Ends this process with a status as wait(2) has it, without a core dump.
fn end(status: i32) -> ! {
    // SAFETY: system calls with pointers to our own stack; none needs a lock.
    unsafe {
        if status & 0x7f != 0 {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            libc::signal(status & 0x7f, libc::SIG_DFL);
            let mut mask = std::mem::zeroed();
            libc::sigemptyset(&raw mut mask);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
            libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), status & 0x7f);
        }
        libc::_exit(status >> 8 & 0xff)
    }
}
