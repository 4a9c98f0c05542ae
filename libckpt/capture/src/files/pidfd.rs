//! pidfd_open(2).
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use ckpt_sys::pidfd;
use ckpt_sys::proc::{malformed, status::Status};

/// Saves a pidfd of a process of the job, or of one that has ended.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let pid = file.info.field("Pid").and_then(|text| text.parse::<i32>().ok());
    let pid = pid.ok_or_else(|| malformed("parse of a pidfd's Pid", context.index.holder(file)))?;
    if pid < 0 {
        return Ok(FileKindV1::Pidfd { pid: 0, status: pidfd::exit_status(file.dup()) });
    }
    if context.index.is_of_job(pid) {
        return Ok(FileKindV1::Pidfd { pid, status: None });
    }
    let process = Status::of(pid, pid).and_then(|status| status.number("Tgid")).unwrap_or(0);
    let (what, remedy) = if pid != 0 && i32::try_from(process) != Ok(pid) && process != 0 {
        (
            format!("thread {pid}, and descriptors of single threads cannot be saved yet"),
            "Close it before saving",
        )
    } else {
        (
            format!("process {pid}, which is not of the job"),
            "Close it before saving, or save the tree that has both",
        )
    };
    Err(context.unsupported(file, format!("it stands for {what}"), remedy))
}
