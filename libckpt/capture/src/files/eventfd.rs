//! eventfd(2).
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use ckpt_sys::proc::malformed;

/// Saves an eventfd.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let count = file.info.field("eventfd-count").and_then(|text| u64::from_str_radix(text, 16).ok());
    let count = count.ok_or_else(|| malformed("parse of eventfd-count", context.index.holder(file)))?;
    // Before Linux 6.5 the kernel does not tell.
    let semaphore = file.info.field("eventfd-semaphore");
    let Some(semaphore) = semaphore else {
        return Err(context.unsupported(
            file,
            "this kernel does not tell whether an eventfd is a semaphore",
            "Use Linux 6.5 or later",
        ));
    };
    Ok(FileKindV1::Eventfd { count, semaphore: semaphore != "0" })
}
