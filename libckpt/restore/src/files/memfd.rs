//! memfd_create(2).
use super::Maker;
use super::common::{open_flags, show};
use crate::error::RestoreResult;
use ckpt_image::record::{OpenFileV1, ShmemId};
use ckpt_sys::{SysError, descriptor};
use std::os::fd::OwnedFd;

/// Opens a memory object that has been, or now is, made again.
pub(super) fn make(maker: &mut Maker<'_, '_>, file: &OpenFileV1, shmem: ShmemId) -> RestoreResult<OwnedFd> {
    let link = maker.contents.shmem_link(maker.image, shmem)?;
    // A description that open(2) made for writing would keep the program from running the file. That of memfd_create(2) does not.
    let access = file.flags.cast_signed() & libc::O_ACCMODE;
    if access == libc::O_RDWR
        && let Some(original) = maker.contents.take_original(shmem)?
    {
        return Ok(original);
    }
    let opened = descriptor::open(&link, open_flags(file) & !libc::O_NOFOLLOW, 0);
    Ok(opened.map_err(|errno| SysError::new("open", show(&link), errno))?)
}
