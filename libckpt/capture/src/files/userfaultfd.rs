//! userfaultfd(2). What is registered with each was found out when the memory of its process was looked at.
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::{FileKindV1, MmId, UserfaultfdV1};
use ckpt_sys::uffd;

/// Saves a userfaultfd.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let kind = |record: UserfaultfdV1| Ok(FileKindV1::Userfaultfd(Box::new(record)));
    let Some(objects) = &context.objects else {
        // Only its process tells more, when it is stopped.
        let features = file.info.field("API").and_then(uffd::features);
        return kind(UserfaultfdV1 { mm: MmId(0), features, areas: Vec::new() });
    };
    let (reason, remedy) = match objects.userfaultfds.record(file.place) {
        Some(Ok(record)) => {
            if file.info.field("total").is_none_or(|waiting| waiting == "0") {
                return kind(record);
            }
            (
                "somebody who is not of the job, or the kernel, waits for a page of its memory",
                "Save again when that is there",
            )
        }
        Some(Err(_)) => (
            "it is for the memory of no process of the job: of one outside, or one that has ended or executes another program since",
            "Close it before saving, or save the tree that has both",
        ),
        None if context.index.holders(file).is_empty() => (
            "whose memory it is for can be told of an open descriptor only",
            "Save again when it has been received",
        ),
        None => ("it was made as the job was being saved", "Save again"),
    };
    Err(context.unsupported(file, reason, remedy))
}
