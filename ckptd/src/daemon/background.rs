//! How a daemon that a command started leaves that command behind.
use crate::failure::{Failure, Outcome};
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A log longer than this (bytes) is put aside when a daemon starts.
const LONG_LOG: u64 = 16 << 20;

/// Closes every descriptor but the standard three: scripts wait for the end of pipes that a caller left open in us.
pub(super) fn close_inherited() {
    // SAFETY: close_range(2) touches no memory. It runs first of all, before anything here owns a descriptor above 2.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Becomes a background process with its own session, `/` as directory and `log` for its output. The process that
/// was called ends with status 0: the socket listens already, so that whoever waited for it can connect.
pub(super) fn detach(log: &Path) -> Outcome<()> {
    let fail =
        |what: &str, error: std::io::Error| Failure::new(format!("cannot {what} in the background: {error}"));
    let log_file = open_log(log)
        .map_err(|error| Failure::new(format!("cannot write the log {}: {error}", log.display())))?;
    let null = File::open("/dev/null").map_err(|error| fail("use /dev/null", error))?;
    fork_away().map_err(|errno| fail("fork", errno.into()))?;
    setsid().map_err(|errno| fail("start a session", errno.into()))?;
    // Once more, so that it leads no session and never gets a controlling terminal.
    fork_away().map_err(|errno| fail("fork", errno.into()))?;
    let redirect = || -> nix::Result<()> {
        chdir("/")?;
        dup2_stdin(&null)?;
        dup2_stdout(&log_file)?;
        dup2_stderr(&log_file)
    };
    redirect().map_err(|errno| fail("redirect output", errno.into()))
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if path.metadata().is_ok_and(|meta| meta.len() > LONG_LOG) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn fork_away() -> nix::Result<()> {
    // SAFETY: this process has one thread, so that the child may go on as the parent could have.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        // SAFETY: _exit(2) runs no destructors: the child still uses the lock and the socket.
        ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
    }
}
