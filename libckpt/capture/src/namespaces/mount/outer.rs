//! What is outside of a mount namespace: the mounts of another one, and what its paths lead to.
use ckpt_sys::SysResult;
use ckpt_sys::mount::open_path;
use ckpt_sys::proc::mounts::{self, Mount};
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Device and inode of a file.
pub(super) type Identity = (u64, u64);

/// A mount namespace as seen from another one.
#[derive(Debug, Default)]
pub(crate) struct Outer {
    pub(super) mounts: Vec<Mount>,
    root: Option<OwnedFd>,
}

impl Outer {
    /// The one that this thread is in.
    pub(crate) fn own() -> SysResult<Self> {
        Ok(Self { mounts: mounts::own()?, root: Some(open_path(Path::new("/"))?) })
    }

    /// The one that process `pid` is in.
    pub(crate) fn of(pid: i32) -> SysResult<Self> {
        let root = open_path(Path::new(&format!("/proc/{pid}/root/")))?;
        Ok(Self { mounts: mounts::of(pid)?, root: Some(root) })
    }

    /// Whether a path leads to something there.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.identity(path).is_some()
    }

    /// What a path leads to there, links followed as here.
    pub(super) fn metadata(&self, path: &[u8]) -> Option<fs::Metadata> {
        let root = self.root.as_ref()?.as_raw_fd();
        let view = [format!("/proc/self/fd/{root}").as_bytes(), path].concat();
        fs::metadata(OsStr::from_bytes(&view)).ok()
    }

    /// What a path leads to there.
    pub(super) fn identity(&self, path: &[u8]) -> Option<Identity> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT;
        let stat = fstatat(self.root.as_ref()?, Path::new(OsStr::from_bytes(path)), flags).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// The path under which what a mount shows is seen there. `wanted`: what it must lead to; None: that cannot be told.
    pub(super) fn path_of(&self, mount: &Mount, wanted: Option<Identity>) -> Option<Vec<u8>> {
        let shown = self.mounts.iter().filter(|other| other.device == mount.device);
        let mut paths = shown.filter_map(|other| below(&mount.root, &other.root, &other.point));
        paths.find(|path| wanted.is_none() || self.identity(path) == wanted)
    }
}

/// The path under which `root` of a file system is seen where its part `shown` is mounted at `point`.
pub(super) fn below(root: &[u8], shown: &[u8], point: &[u8]) -> Option<Vec<u8>> {
    let shown = shown.strip_suffix(b"/").unwrap_or(shown);
    let rest = root.strip_prefix(shown)?;
    if !rest.is_empty() && !rest.starts_with(b"/") {
        return None;
    }
    let point = point.strip_suffix(b"/").unwrap_or(point);
    let path = [point, rest.strip_suffix(b"/").unwrap_or(rest)].concat();
    Some(if path.is_empty() { b"/".to_vec() } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_part_of_a_file_system_is_seen() {
        assert_eq!(below(b"/a/b", b"/", b"/mnt").unwrap(), b"/mnt/a/b");
        assert_eq!(below(b"/a/b", b"/a", b"/mnt").unwrap(), b"/mnt/b");
        assert_eq!(below(b"/a", b"/a", b"/").unwrap(), b"/");
        assert_eq!(below(b"/", b"/", b"/mnt").unwrap(), b"/mnt");
        assert_eq!(below(b"/ab", b"/a", b"/mnt"), None);
        assert_eq!(below(b"/b", b"/a", b"/mnt"), None);
    }
}
