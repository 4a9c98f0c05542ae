//! pidfd_open(2). All processes are there by then, zombies among them.
use crate::error::RestoreResult;
use ckpt_image::record::OpenFileV1;
use ckpt_sys::{pidfd, spawn};
use std::os::fd::OwnedFd;

/// A pidfd of process `pid`; 0: of one that has ended with `status`.
pub(super) fn make(file: &OpenFileV1, pid: i32, status: Option<i32>) -> RestoreResult<OwnedFd> {
    if pid == 0 {
        return Ok(spawn::ended_child(status.unwrap_or(0))?);
    }
    Ok(pidfd::open_with(pid, file.flags.cast_signed() & (pidfd::THREAD | libc::O_NONBLOCK))?)
}
