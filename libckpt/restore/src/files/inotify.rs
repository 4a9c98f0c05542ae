//! inotify(7).
use super::Maker;
use super::common::show;
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use crate::nameless::Watched;
use ckpt_image::record::{InotifyWatchV1, OpenFileId};
use ckpt_sys::canonical::Refusal;
use ckpt_sys::{SysError, descriptor};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const QUEUE_LIMIT: &str = "/proc/sys/fs/inotify/max_queued_events";
/// Bytes of an event without a name.
const EVENT: u32 = 16;

/// Makes an instance with the watches that it had, under their numbers.
pub(super) fn make(
    maker: &mut Maker<'_, '_>,
    id: OpenFileId,
    watches: &[InotifyWatchV1],
    unread: u32,
) -> RestoreResult<OwnedFd> {
    let mut links = HashMap::new();
    for watch in watches {
        let link = match maker.contents.nameless.watched(id, watch.wd).cloned() {
            None => continue,
            Some(Watched::Link(link)) => link,
            Some(Watched::Ghost(ghost)) => maker.contents.ghost_link(maker.image, ghost)?,
        };
        links.insert(watch.wd, link);
    }
    instance(watches, unread, &links)
}

/// An instance; watches with a number in `links` are put on what that leads to.
fn instance(
    watches: &[InotifyWatchV1],
    unread: u32,
    links: &HashMap<i32, Vec<u8>>,
) -> RestoreResult<OwnedFd> {
    let inotify = descriptor::new_inotify()?;
    if unread > 0 {
        overflow(inotify.as_fd())?;
    }
    for watch in watches {
        descriptor::set_next_watch(inotify.as_fd(), watch.wd)?;
        let add =
            |link: &[u8]| descriptor::add_watch(inotify.as_fd(), link, watch.mask & !libc::IN_DONT_FOLLOW);
        let added = match links.get(&watch.wd) {
            Some(link) => add(link).map_err(Refusal::from),
            None => canonical::with_link(&watch.path, add),
        };
        let wd = added.map_err(|refusal| match refusal {
            Refusal::Errno(errno) => RestoreError::File {
                path: show(&watch.path),
                reason: format!("the program watches it (inotify), and it cannot be watched: {errno}"),
                remedy: "Put it back and restore again".into(),
            },
            link => canonical::failed("open", &watch.path, &link),
        })?;
        if wd != watch.wd {
            return Err(RestoreError::File {
                path: show(&watch.path),
                reason: format!("the program watches it and {} apart, and now they are one file", watch.wd),
                remedy: "Put both files back and restore again".into(),
            });
        }
    }
    Ok(inotify)
}

/// Leaves one IN_Q_OVERFLOW in the queue, the kernel's own word for lost events. It comes when the queue is full: that is filled with events of two
/// watches in turn, as equal ones in a row are one, and emptied again up to the last.
fn overflow(inotify: BorrowedFd<'_>) -> RestoreResult<()> {
    let text =
        std::fs::read_to_string(QUEUE_LIMIT).map_err(|error| SysError::new("read", QUEUE_LIMIT, error))?;
    let limit: usize = text.trim().parse().unwrap_or(0);
    let mut watched = Vec::new();
    for _ in 0..2 {
        let file = memfd_create(c"events", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| SysError::new("memfd_create", "for events", errno))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let wd = descriptor::add_watch(inotify, path.as_bytes(), libc::IN_ATTRIB)
            .map_err(|errno| SysError::new("inotify_add_watch", path, errno))?;
        watched.push((file, wd));
    }
    for at in 0..=limit {
        let (file, _) = &watched[at % 2];
        fchmod(file, Mode::S_IRUSR).map_err(|errno| SysError::new("fchmod", "for events", errno))?;
    }
    // The queue is full: that these watches end is not told.
    for (_, wd) in &watched {
        descriptor::remove_watch(inotify, *wd)
            .map_err(|errno| SysError::new("inotify_rm_watch", "for events", errno))?;
    }
    let mut events = vec![0; 4096];
    loop {
        let left = descriptor::readable_bytes(inotify)?;
        if left <= EVENT {
            return Ok(());
        }
        let len = usize::try_from(left - EVENT).unwrap_or(0).min(events.len());
        nix::unistd::read(inotify, &mut events[..len])
            .map_err(|errno| SysError::new("read", "events", errno))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn watches_keep_their_numbers_and_lost_events_are_told() {
        let directory = std::env::temp_dir().join(format!("ckpt-restore-inotify-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.as_os_str().as_bytes().to_vec();
        let watch = InotifyWatchV1 { wd: 7, mask: libc::IN_CREATE, path };
        let inotify = instance(&[watch], 64, &HashMap::new()).unwrap();
        std::fs::write(directory.join("new"), b"").unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let mut events = [0_u8; 4096];
        let len = nix::unistd::read(&inotify, &mut events).unwrap();
        let word = |at: usize| i32::from_ne_bytes(events[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4)), (-1, libc::IN_Q_OVERFLOW.cast_signed()));
        assert_eq!((word(16), word(20)), (7, libc::IN_CREATE.cast_signed()));
        assert!(len >= 48);
    }
}
