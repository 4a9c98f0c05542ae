//! Objects whose other end is outside the job: fine at descriptors 0, 1 and 2, refused elsewhere.
use super::index::show;
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// Saves `file` as the standard descriptor that it is or shares its object with; refuses it for `reason` if there is none.
pub(super) fn describe(
    context: &mut Context<'_>,
    file: &FoundFile,
    reason: impl FnOnce(&Context<'_>) -> String,
    remedy: &str,
) -> CaptureResult<FileKindV1> {
    match number(context, file).or_else(|| related(context, file)) {
        Some(number) => Ok(FileKindV1::Stdio { number, was: show(&file.link) }),
        // The other end may be under way.
        None if context.unseen => Ok(FileKindV1::Stdio { number: 0, was: show(&file.link) }),
        None => Err(context.unsupported(file, reason(context), remedy)),
    }
}

/// Whether a description is a standard descriptor, or shares its object with one.
pub(super) fn is_standard(context: &Context<'_>, file: &FoundFile) -> bool {
    number(context, file).or_else(|| related(context, file)).is_some()
}

/// The standard descriptor that a description is.
pub(super) fn number(context: &Context<'_>, file: &FoundFile) -> Option<u32> {
    let holders = context.index.holders(file).iter();
    let standard = holders.map(|(_, fd)| *fd).find(|fd| (0..=2).contains(fd));
    standard.and_then(|fd| u32::try_from(fd).ok())
}

/// The standard descriptor that is another description of the same object.
fn related(context: &Context<'_>, file: &FoundFile) -> Option<u32> {
    let candidates = context
        .index
        .with_link(&file.link)
        .filter_map(|other| Some((other.info.access() != file.info.access(), number(context, other)?)));
    candidates.min().map(|(_, number)| number)
}

/// Who else has this object open, for messages: ` (pid 4711, name)`; or empty.
pub(super) fn other_holder(context: &Context<'_>, link: &[u8]) -> String {
    let own = std::process::id().cast_signed();
    let Ok(processes) = fs::read_dir("/proc") else { return String::new() };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == own || context.index.is_member(pid) {
            continue;
        }
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |fd: fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str().as_bytes() == link)
        };
        if fds.flatten().any(holds) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return format!(" (pid {pid}, {})", name.trim());
        }
    }
    String::new()
}
