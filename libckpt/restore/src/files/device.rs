//! Character devices without state.
use super::Maker;
use super::common::{open_flags, show};
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::OpenFileV1;
use ckpt_sys::SysError;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// Opens the device again.
pub(super) fn make(
    maker: &Maker<'_, '_>,
    file: &OpenFileV1,
    path: &[u8],
    rdev: u64,
) -> RestoreResult<OwnedFd> {
    let found = maker.further.seen_for(file.id, path);
    let found = maker.contents.nameless.link(file.id).unwrap_or(&found);
    let fd = super::path::open(found, open_flags(file), libc::S_IFCHR, "the program")?;
    let opened = File::from(fd);
    let now = opened.metadata().map_err(|error| SysError::new("fstat", show(path), error))?;
    if now.rdev() != rdev {
        return Err(RestoreError::File {
            path: show(path),
            reason: "it is another device than it was".into(),
            remedy: "Make the device node again (mknod) and restore".into(),
        });
    }
    Ok(opened.into())
}
