//! pidfd_open(2).
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::{FileKindV1, OpenFileId};
use ckpt_sys::pidfd;
use ckpt_sys::proc::{malformed, status::Status};
use nix::sys::statfs::fstatfs;
use std::os::unix::fs::MetadataExt;

/// The first description of the process that `file` is of. Before Linux 6.9 all pidfds have one inode: then that is `file` itself.
fn first_of_process(context: &Context<'_>, file: &FoundFile) -> OpenFileId {
    const PID_FS_MAGIC: i64 = 0x5049_4446;
    if !fstatfs(file.dup()).is_ok_and(|fs| fs.filesystem_type().0 == PID_FS_MAGIC) {
        return file.id;
    }
    let same = context.index.with_link(&file.link).filter(|other| other.meta.ino() == file.meta.ino());
    same.map(|other| other.id).min().unwrap_or(file.id)
}

/// Saves a pidfd of a process of the job, or of one that has ended.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let pid = file.info.field("Pid").and_then(|text| text.parse::<i32>().ok());
    let pid = pid.ok_or_else(|| malformed("parse of a pidfd's Pid", context.index.holder(file)))?;
    if pid < 0 {
        let number = i32::try_from(first_of_process(context, file).0).unwrap_or(i32::MAX - 1);
        return Ok(FileKindV1::Pidfd { pid: -1 - number, status: pidfd::exit_status(file.dup()) });
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
