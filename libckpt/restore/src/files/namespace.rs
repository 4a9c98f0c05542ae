//! Descriptors of namespaces: those of the processes that are there again.
use super::common::open_flags;
use crate::error::RestoreResult;
use ckpt_image::record::OpenFileV1;
use ckpt_sys::{SysError, descriptor};
use std::os::fd::OwnedFd;

/// Opens file `name` of /proc/`pid`/ns.
pub(super) fn make(file: &OpenFileV1, pid: i32, name: &str) -> RestoreResult<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{name}");
    // What it leads to is no link.
    let opened = descriptor::open(path.as_bytes(), open_flags(file) & !libc::O_NOFOLLOW, 0);
    Ok(opened.map_err(|errno| SysError::new("open", path, errno))?)
}
