//! signalfd(2).
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use ckpt_sys::proc::malformed;

/// Saves a signalfd. The signals that it would read are pending with the threads.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let mask = file.info.field("sigmask").and_then(|text| u64::from_str_radix(text, 16).ok());
    let mask = mask.ok_or_else(|| malformed("parse of sigmask", context.index.holder(file)))?;
    Ok(FileKindV1::Signalfd { mask })
}
