//! clone3(2): a process or thread with an id of the caller's choice.
use crate::error::{SysError, SysResult};
use crate::pidfd::owned;
use crate::raw::syscall;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

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

/// clone3(2) of this process with the CLONE_* `flags`, with process id `pid` if one is given. The child's pid; in the child None.
///
/// # Errors
/// EEXIST: the pid is taken. EPERM: no privilege to choose one. EBUSY: this process has other threads, which might hold locks that the child would
/// wait for.
pub fn fork(flags: u64, pid: Option<i32>) -> SysResult<Option<i32>> {
    if !becomes_alone() {
        return Err(SysError::new("clone3", "a child process", nix::errno::Errno::EBUSY));
    }
    // SAFETY: as was just seen.
    unsafe { fork_alone(flags, pid) }
}

/// Whether this process has one thread only. One that has been joined is still there for a moment.
fn becomes_alone() -> bool {
    const LIMIT: Duration = Duration::from_secs(10);
    let begin = Instant::now();
    loop {
        match std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) {
            1 => return true,
            0 => return false,
            _ if begin.elapsed() > LIMIT => return false,
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// As [`fork`], where /proc does not tell how many threads this process has.
///
/// # Safety
/// It has one.
pub(crate) unsafe fn fork_alone(flags: u64, pid: Option<i32>) -> SysResult<Option<i32>> {
    let object = || pid.map_or_else(|| "a child process".to_owned(), |pid| format!("pid {pid}"));
    let set_tid = [pid.unwrap_or(0)];
    let mut args = CloneArgs { flags, ..CloneArgs::default() };
    if flags & u64::from(libc::CLONE_PARENT.unsigned_abs()) == 0 {
        args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    }
    if pid.is_some() {
        args.set_tid = u64::try_from(set_tid.as_ptr().expose_provenance()).unwrap_or(0);
        args.set_tid_size = 1;
    }
    let at = u64::try_from((&raw mut args).expose_provenance()).unwrap_or(0);
    // SAFETY: `args` is laid out as the kernel's structure, with its size. The child has a copy of our memory, and no thread that it
    // lacks can hold a lock.
    match unsafe { syscall(libc::SYS_clone3, [at, CLONE_ARGS_SIZE, 0, 0, 0, 0]) } {
        Ok(0) => Ok(None),
        Ok(child) => Ok(Some(i32::try_from(child).unwrap_or(0))),
        Err(errno) => Err(SysError::new("clone3", object(), errno)),
    }
}

/// Makes a process with process id `pid` that does nothing but wait to be seized, and dies with its parent: a child of this one, or with
/// `sibling` one of its parent's.
///
/// # Errors
/// As [`fork`].
pub fn waiting_process(pid: i32, sibling: bool) -> SysResult<i32> {
    let flags = if sibling { u64::from(libc::CLONE_PARENT.unsigned_abs()) } else { 0 };
    match fork(flags, Some(pid))? {
        Some(child) => Ok(child),
        None => wait_to_be_seized(),
    }
}

/// Does nothing more, and dies with the thread that made this process.
pub fn wait_to_be_seized() -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::pause();
        }
    }
}

/// `count` descriptors, at least one, that stand for a process that has ended with `status`, as wait(2) has it, and was waited for.
pub fn ended_child(status: i32, count: usize) -> SysResult<Vec<OwnedFd>> {
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
            let mut fds = vec![owned(u64::from(pidfd.unsigned_abs()))];
            // Until it is waited for, it has its pid.
            while fds.len() < count {
                fds.push(crate::pidfd::open(child)?);
            }
            // SAFETY: no pointers but a null one; the child is ours.
            while unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) } == -1 {
                let error = SysError::last("waitpid", format!("pid {child}"));
                if error.errno() != Some(nix::errno::Errno::EINTR) {
                    return Err(error);
                }
            }
            Ok(fds)
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

/// Ends this process at once: what is its maker's to do at an end is not done.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: no pointers, and no return.
    unsafe { libc::_exit(status) }
}
