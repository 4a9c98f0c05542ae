//! fanotify(7).
use super::common::show;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::FanotifyMarkV1;
use ckpt_sys::fanotify::{self, mark};
use std::os::fd::{AsFd, OwnedFd};

/// FAN_CLOEXEC.
const CLOEXEC: u32 = 1;

/// Makes a group with the marks that it had.
pub(super) fn make(flags: u32, event_flags: u32, marks: &[FanotifyMarkV1]) -> RestoreResult<OwnedFd> {
    let group = fanotify::init(flags | CLOEXEC, event_flags)?;
    for FanotifyMarkV1 { flags, mask, ignored, path } in marks {
        let place = flags & (mark::MOUNT | mark::FILESYSTEM | mark::EVICTABLE);
        // The path has no links left to follow, unless the mark is on a link itself.
        let place = place | if place & (mark::MOUNT | mark::FILESYSTEM) == 0 { mark::DONT_FOLLOW } else { 0 };
        let way = if flags & mark::IGNORE != 0 { mark::IGNORE } else { mark::IGNORED_MASK };
        let ignoring = place | way | flags & mark::IGNORED_SURV_MODIFY;
        for (flags, mask) in [(place, *mask), (ignoring, *ignored)] {
            if mask != 0 {
                fanotify::add_mark(group.as_fd(), flags, mask, path).map_err(|errno| RestoreError::File {
                    path: show(path),
                    reason: format!("the program watches it (fanotify), and it cannot be watched: {errno}"),
                    remedy: "Put it back and restore again".into(),
                })?;
            }
        }
    }
    Ok(group)
}
