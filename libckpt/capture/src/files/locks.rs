//! Locks on files.
use super::fdinfo::parse_lock;
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::FileLockV1;

/// Saves the locks held through a description.
pub(super) fn capture_locks(context: &Context<'_>, file: &FoundFile) -> CaptureResult<Vec<FileLockV1>> {
    let locks = context.index.locks(file).map(|line| {
        parse_lock(line).map_err(|class| {
            context.unsupported(
                file,
                format!("it has a lock of a kind that cannot be saved ({class})"),
                "Release it before saving",
            )
        })
    });
    locks.collect()
}
