//! fanotify(7).
use super::common::show;
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::FanotifyMarkV1;
use ckpt_sys::canonical::Refusal;
use ckpt_sys::fanotify::{self, mark};
use std::os::fd::{AsFd, OwnedFd};

/// FAN_CLOEXEC.
const CLOEXEC: u32 = 1;

/// Makes a group with the marks that it had.
pub(super) fn make(flags: u32, event_flags: u32, marks: &[FanotifyMarkV1]) -> RestoreResult<OwnedFd> {
    let group = fanotify::init(flags | CLOEXEC, event_flags)?;
    for FanotifyMarkV1 { flags, mask, ignored, path } in marks {
        let place = flags & (mark::MOUNT | mark::FILESYSTEM | mark::EVICTABLE);
        let way = if flags & mark::IGNORE != 0 { mark::IGNORE } else { mark::IGNORED_MASK };
        let ignoring = place | way | flags & mark::IGNORED_SURV_MODIFY;
        for (flags, mask) in [(place, *mask), (ignoring, *ignored)] {
            if mask != 0 {
                let add = |link: &[u8]| fanotify::add_mark(group.as_fd(), flags, mask, link);
                canonical::with_link(path, add).map_err(|refusal| match refusal {
                    Refusal::Errno(errno) => RestoreError::File {
                        path: show(path),
                        reason: format!(
                            "the program watches it (fanotify), and it cannot be watched: {errno}"
                        ),
                        remedy: "Put it back and restore again".into(),
                    },
                    link => canonical::failed("open", path, &link),
                })?;
            }
        }
    }
    Ok(group)
}
