//! The first process of a PID namespace, where that is to have no other task than a first process has: waiting for orphans.
use crate::error::{SysError, SysResult};
use crate::pidfd;
use crate::pidfd::has_ended;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// How often to look whether anyone is left who is no child of ours.
const LOOK: Duration = Duration::from_millis(20);

/// Makes this process, which is the first of its PID namespace, one that waits for orphans until no other process is left, and ends then. It
/// begins when it reads from `go` the pid (4 bytes, as the namespace has it) of a process that is not its child and that it is to outlive; is
/// `go` closed before, it ends at once. Descriptors but `go` are closed.
pub fn be_first_process(go: OwnedFd) -> ! {
    // Nothing of whoever made this process is to be held by it.
    let go = only(go);
    let _ = nix::unistd::chdir("/");
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"ckpt-init");
    let _ = SigSet::all().thread_set_mask();
    let mut pid = [0; 4];
    if File::from(go).read_exact(&mut pid).is_ok() {
        outlive(i32::from_ne_bytes(pid));
    }
    // SAFETY: ends this process without what would be its maker's to do.
    unsafe { libc::_exit(0) }
}

fn only(go: OwnedFd) -> OwnedFd {
    // SAFETY: no pointers. The process goes on in this file only, with the one descriptor that is kept.
    unsafe {
        libc::dup2(go.as_raw_fd(), 0);
        libc::close_range(1, u32::MAX, 0);
    }
    std::mem::forget(go);
    // SAFETY: it was put there above, and nothing else has it.
    unsafe { OwnedFd::from_raw_fd(0) }
}

fn outlive(pid: i32) {
    let child_ends = [Signal::SIGCHLD].into_iter().collect::<SigSet>();
    let signals = SignalFd::with_flags(&child_ends, SfdFlags::SFD_NONBLOCK);
    if let (Ok(process), Ok(signals)) = (pidfd::open(pid), signals) {
        while !has_ended(process.as_fd()) {
            while let Ok(Some(_)) = signals.read_signal() {}
            reap();
            let mut ends = [
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(&mut ends, PollTimeout::NONE);
        }
    }
    // What it left behind is ours now. Others may be guests, who are born here but have parents elsewhere.
    while reap() || others_live() {
        std::thread::sleep(LOOK);
    }
}

/// Waits for all children that have ended. Whether there are more.
fn reap() -> bool {
    loop {
        match wait_for_any(libc::WNOHANG) {
            Ok(None) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// waitpid(2) for any child, of whatever kind, with its `options`: the child's pid and its status as wait(2) has it. None: with WNOHANG, no child
/// has anything to tell.
///
/// # Errors
/// ECHILD: there are no children.
pub fn wait_for_any(options: i32) -> SysResult<Option<(i32, i32)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and valid for writing.
        match unsafe { libc::waitpid(-1, &raw mut status, options | libc::__WALL) } {
            0 => return Ok(None),
            -1 => {
                let error = SysError::last("waitpid", "any child");
                if error.errno() != Some(Errno::EINTR) {
                    return Err(error);
                }
            }
            pid => return Ok(Some((pid, status))),
        }
    }
}

fn others_live() -> bool {
    // SAFETY: no pointers; no signal is sent.
    unsafe { libc::kill(-1, 0) == 0 }
}
