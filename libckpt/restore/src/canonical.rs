//! Paths of an image: the kernel told of them, so they had no symbolic link in them. What has one now may lead where its owner has no access, and
//! restoring is often root's: such a link is followed only if root or this process's user has made it.
use crate::error::RestoreError;
use ckpt_sys::SysError;
use ckpt_sys::canonical::{self, Place, Refusal};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Opens a path of an image, or one of ours that begins with the link of a descriptor of ours: of a root directory, or of the file itself.
pub(crate) fn open(path: &[u8], flags: i32) -> Result<OwnedFd, Refusal> {
    match split(path) {
        Some((_, b"")) => Ok(ckpt_sys::descriptor::open(path, flags, 0)?),
        Some((root, below)) => canonical::open(Some(root), below, flags, 0),
        None => canonical::open(None, path, flags, 0),
    }
}

/// Whether a path is the link of a descriptor of ours.
pub(crate) fn is_own(path: &[u8]) -> bool {
    split(path).is_some_and(|(_, below)| below.is_empty())
}

/// Our descriptor that a path begins at, and what follows.
fn split(path: &[u8]) -> Option<(RawFd, &[u8])> {
    let rest = path.strip_prefix(format!("/proc/{}/fd/", std::process::id()).as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number, &rest[end..]))
}

/// Does something with a path that leads to what a path of an image names, a symbolic link itself included.
pub(crate) fn with_link<T>(path: &[u8], work: impl FnOnce(&[u8]) -> Result<T, Errno>) -> Result<T, Refusal> {
    let found = open(path, libc::O_PATH | libc::O_NOFOLLOW)?;
    Ok(work(canonical::link(found.as_fd()).as_os_str().as_bytes())?)
}

/// The place of a path of an image.
pub(crate) fn place(path: &[u8]) -> Result<Place, Refusal> {
    Place::of(None, path)
}

/// The error of a path that could not be opened.
pub(crate) fn failed(call: &'static str, path: &[u8], refusal: &Refusal) -> RestoreError {
    let shown = String::from_utf8_lossy(path).into_owned();
    match refusal {
        Refusal::Errno(errno) => SysError::new(call, shown, *errno).into(),
        Refusal::Link { path: link, owner } => {
            let link = link.display();
            RestoreError::File {
                path: shown,
                reason: format!(
                    "{link} is a symbolic link of user {owner} now, and was none when the program was saved: what it leads to may be another's"
                ),
                remedy: format!(
                    "Put back what was there, or, if it is to lead there, give the link to root (chown -h root {link}), and restore again"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_descriptors() {
        let own = |rest: &str| format!("/proc/{}/fd/{rest}", std::process::id()).into_bytes();
        assert_eq!(split(&own("7")), Some((7, &b""[..])));
        assert_eq!(split(&own("7/a/b")), Some((7, &b"/a/b"[..])));
        assert!(is_own(&own("7")) && !is_own(&own("7/a")) && !is_own(b"/a"));
        assert_eq!(split(&own("a")), None);
    }
}
