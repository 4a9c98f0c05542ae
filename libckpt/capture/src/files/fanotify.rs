//! fanotify(7): groups without permission events and with nothing to read.
use super::inotify::{Mounts, Watch};
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::{FanotifyMarkV1, FileKindV1};
use ckpt_sys::descriptor;
use ckpt_sys::fanotify::{PERMISSION_EVENTS, mark};
use ckpt_sys::proc::malformed;

/// Saves a group.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let holder = context.index.holder(file);
    let broken = || malformed("parse of a fanotify group", holder);
    if context.objects.is_some() && descriptor::readable_bytes(file.dup())? > 0 {
        return Err(context.unsupported(
            file,
            "events wait to be read, which would take them from the program",
            "Save again when the program has read them",
        ));
    }
    let (mut group, mut marks, mut mounts) = (None, Vec::new(), Mounts::read()?);
    for line in file.info.lines("fanotify ") {
        let hex = |name: &str| value(line, name).and_then(|text| u64::from_str_radix(text, 16).ok());
        let word = |name: &str| hex(name).and_then(|value| u32::try_from(value).ok());
        if let Some(flags) = word("flags:") {
            group = Some((flags, word("event-flags:").ok_or_else(broken)?));
            continue;
        }
        let mask = hex("mask:").ok_or_else(broken)?;
        let ignored = hex("ignored_mask:").ok_or_else(broken)?;
        let mut flags = word("mflags:").ok_or_else(broken)?;
        if (mask | ignored) & PERMISSION_EVENTS != 0 {
            return Err(context.unsupported(
                file,
                "it decides about other programs' access to files, which wait for its answers",
                "Let the program remove its marks for permission events before saving",
            ));
        }
        let path = if let Some(id) = word("mnt_id:") {
            flags |= mark::MOUNT;
            mounts.point(i32::try_from(id).unwrap_or(-1))
        } else if value(line, "ino:").is_some() {
            let watch = Watch::of_mark(line).ok_or_else(broken)?;
            mounts.path_of(&watch)
        } else {
            flags |= mark::FILESYSTEM;
            let device = hex("sdev:").ok_or_else(broken)?;
            mounts.point_of_device(device)
        };
        let Some(path) = path else {
            let reason = format!("the path of one of its marks cannot be found ({line})");
            return Err(context.unsupported(file, reason, "Remove that mark before saving"));
        };
        marks.push(FanotifyMarkV1 { flags, mask, ignored, path });
    }
    let (flags, event_flags) = group.ok_or_else(broken)?;
    Ok(FileKindV1::Fanotify { flags, event_flags, marks })
}

/// What follows a name in a line of fdinfo.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_parts_of_names() {
        let line = "mnt_id:1b mflags:40 mask:20 ignored_mask:8";
        assert_eq!((value(line, "mask:"), value(line, "ignored_mask:")), (Some("20"), Some("8")));
        assert_eq!(value(line, "flags:"), None);
    }
}
