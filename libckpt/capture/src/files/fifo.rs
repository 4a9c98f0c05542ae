//! FIFOs: pipes with a name.
use super::{Context, FoundFile, path, pipe};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Saves one end of a FIFO. Whoever opens its other ends by name finds them again, within the job and outside.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let path = path::name(context, file)?;
    let same = |end: &&Arc<FoundFile>| {
        let (a, b) = (&end.meta, &file.meta);
        (a.dev(), a.ino()) == (b.dev(), b.ino()) && end.info.flags & libc::O_PATH.unsigned_abs() == 0
    };
    let ends: Vec<Arc<FoundFile>> = context.index.files().iter().filter(same).cloned().collect();
    let pipe = pipe::capture_end(context, file, &ends)?;
    Ok(FileKindV1::Fifo { path, pipe })
}
