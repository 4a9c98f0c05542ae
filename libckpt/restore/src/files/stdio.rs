//! Standard descriptors: the restoring command's own take the place of the terminal or pipe that the job had.
use crate::error::RestoreResult;
use ckpt_image::record::OpenFileV1;
use ckpt_sys::{SysError, descriptor};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// What a description of our own may differ in.
const STATUS: i32 = libc::O_APPEND | libc::O_NONBLOCK;

/// A description that stands for our descriptor of that number.
pub(super) fn make(stdio: [RawFd; 3], file: &OpenFileV1, number: u32) -> RestoreResult<OwnedFd> {
    let index = usize::try_from(number).unwrap_or(0).min(2);
    let Ok(copy) = descriptor::duplicate(stdio[index]) else {
        // The restoring command runs without it.
        let null = descriptor::open(b"/dev/null", libc::O_RDWR, 0);
        return Ok(null.map_err(|errno| SysError::new("open", "/dev/null", errno))?);
    };
    // SAFETY: no pointers.
    let now = unsafe { libc::fcntl(copy.as_raw_fd(), libc::F_GETFL) };
    let wanted = file.flags.cast_signed() & STATUS;
    if now & STATUS == wanted || !can_be_reopened(&copy) {
        return Ok(copy);
    }
    // The flags of our own description are shared with whoever started us: the job gets one of its own.
    let link = format!("/proc/self/fd/{}", copy.as_raw_fd());
    match descriptor::open(link.as_bytes(), now & libc::O_ACCMODE | wanted | libc::O_NOCTTY, 0) {
        Ok(own) => Ok(own),
        Err(Errno::EACCES | Errno::ENXIO | Errno::EIO) => Ok(copy),
        Err(errno) => Err(SysError::new("open", link, errno).into()),
    }
}

/// Terminals and pipes have no position that a description of its own would lose.
fn can_be_reopened(fd: &OwnedFd) -> bool {
    let Ok(file) = fd.try_clone().map(File::from) else { return false };
    let kind = file.metadata().map_or(0, |meta| meta.mode() & libc::S_IFMT);
    matches!(kind, libc::S_IFCHR | libc::S_IFIFO)
}
