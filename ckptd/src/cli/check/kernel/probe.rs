//! Trying things out on short-lived children of our own.
use ckpt_sys::error::SysError;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::{ptrace, spawn, uffd};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid};
use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Bit of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const SOFT_DIRTY_BIT: u64 = 1 << 55;

/// Makes a userfaultfd that tracks writes.
pub(super) fn wp_async() -> Result<(), SysError> {
    let flags = uffd::O_CLOEXEC | uffd::USER_MODE_ONLY;
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    if fd < 0 {
        return Err(SysError::last("userfaultfd", "this process"));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) };
    uffd::enable_wp_async(fd.as_fd())
}

/// Seizes and stops a child, as a capture does with a program.
pub(super) fn seize_a_child() -> Result<(), SysError> {
    // SAFETY: this process has one thread; the child only waits.
    match unsafe { fork() } {
        Err(errno) => Err(SysError::new("fork", "this process", errno)),
        Ok(ForkResult::Child) => loop {
            // SAFETY: no pointers. The child ends with this process.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
            }
        },
        Ok(ForkResult::Parent { child }) => {
            let tried = ptrace::seize(child.as_raw(), 0)
                .and_then(|()| ptrace::interrupt(child.as_raw()))
                .and_then(|()| ptrace::wait(child.as_raw()).map(drop));
            end(child);
            tried
        }
    }
}

/// Makes a child with a pid of our choice.
pub(super) fn chosen_pid() -> Result<(), SysError> {
    let first = getpid().as_raw() / 2 + 1000;
    let mut tried = spawn::waiting_process(first, false);
    for pid in first + 1..first + 1000 {
        match tried {
            Err(ref error) if error.errno() == Some(Errno::EEXIST) => {
                tried = spawn::waiting_process(pid, false)
            }
            _ => break,
        }
    }
    end(Pid::from_raw(tried?));
    Ok(())
}

/// Makes a user namespace with a PID namespace in it.
pub(super) fn user_namespace() -> Result<(), SysError> {
    let made = || namespace::unshare(&[Namespace::User, Namespace::Pid]);
    if let Some(child) = namespace::fork_through(None, made, |_| Ok(()))? {
        end(Pid::from_raw(child));
        return Ok(());
    }
    // The child only has to be there; it ends with this process.
    loop {
        nix::unistd::pause();
    }
}

/// Whether the kernel marks written pages.
pub(super) fn soft_dirty() -> bool {
    // A page of this stack frame: written a moment ago, and no kernel with the feature has cleared its bit since.
    let variable = std::hint::black_box(1u8);
    let page = (&raw const variable).addr() as u64 / 4096;
    let mut entry = [0; 8];
    let read = File::open("/proc/self/pagemap").and_then(|map| map.read_exact_at(&mut entry, page * 8));
    read.is_ok() && u64::from_ne_bytes(entry) & SOFT_DIRTY_BIT != 0
}

fn end(child: Pid) {
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
}
