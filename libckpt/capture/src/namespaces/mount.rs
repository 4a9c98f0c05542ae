//! Mount namespaces: which mounts are there that are outside, too, and which are the job's own.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{MountNamespaceV1, MountOriginV1, MountV1};
use ckpt_sys::proc::mounts::{self, Mount};
use std::path::Path;

mod tree;

/// File systems that are made anew, and that the kernel fills.
const KERNEL_FILLED: [&str; 7] =
    ["proc", "sysfs", "mqueue", "cgroup2", "devpts", "binfmt_misc", "securityfs"];

/// The mounts of process `root`, whose root directory is at `view` here. `outer`: those of whoever saves the job.
pub(super) fn capture(root: i32, outer: &[Mount], view: &Path) -> CaptureResult<MountNamespaceV1> {
    let all = mounts::of(root)?;
    let one = |mount: &Mount| {
        let origin = origin(root, mount, outer)?;
        let origin = match origin {
            MountOriginV1::Own(_) if mount.fs_type == "tmpfs" => {
                check_visible(root, mount, &all)?;
                MountOriginV1::Own(tree::read(root, mount, view)?)
            }
            other => other,
        };
        Ok(MountV1 {
            point: mount.point.clone(),
            root: mount.root.clone(),
            fs_type: mount.fs_type.clone(),
            source: mount.source.clone(),
            flags: mount.flags,
            options: mount.options.clone(),
            shared: mount.shared,
            slave: mount.slave,
            origin,
        })
    };
    Ok(MountNamespaceV1 { mounts: all.iter().map(one).collect::<CaptureResult<_>>()? })
}

/// What of them cannot be saved.
pub(super) fn check(root: i32, outer: &[Mount]) -> CaptureResult<()> {
    let all = mounts::of(root)?;
    all.iter().try_for_each(|mount| origin(root, mount, outer).map(drop))
}

/// Where a mount comes from; of the job's own file systems without what is in them.
fn origin(root: i32, mount: &Mount, outer: &[Mount]) -> CaptureResult<MountOriginV1> {
    let same = |other: &&Mount| (&other.device, &other.root) == (&mount.device, &mount.root);
    if outer.iter().any(|other| same(&other) && other.point == mount.point) {
        return Ok(MountOriginV1::Outside);
    }
    if mount.point == b"/" {
        return Err(refused(
            root,
            mount,
            "its root directory is a mount of its own (pivot_root), which cannot be saved yet",
            "Run ckpt within its mount namespace (nsenter --mount)",
        ));
    }
    let shown = outer.iter().filter(|other| other.device == mount.device);
    let mut paths = shown.filter_map(|other| below(&mount.root, &other.root, &other.point));
    if let Some(path) = paths.next() {
        return Ok(MountOriginV1::Bind(path));
    }
    let type_ = mount.fs_type.as_str();
    if mount.root == b"/" && (type_ == "tmpfs" || KERNEL_FILLED.contains(&type_)) {
        return Ok(MountOriginV1::Own(Vec::new()));
    }
    Err(refused(
        root,
        mount,
        "the job has mounted it for itself, and it cannot be made again",
        "Unmount it before the checkpoint and mount it again after the restore, or mount it outside of the job",
    ))
}

/// The path under which `root` of a file system is seen where its part `shown` is mounted at `point`.
fn below(root: &[u8], shown: &[u8], point: &[u8]) -> Option<Vec<u8>> {
    let shown = shown.strip_suffix(b"/").unwrap_or(shown);
    let rest = root.strip_prefix(shown)?;
    if !rest.is_empty() && !rest.starts_with(b"/") {
        return None;
    }
    let point = point.strip_suffix(b"/").unwrap_or(point);
    let path = [point, rest].concat();
    Some(if path.is_empty() { b"/".to_vec() } else { path })
}

/// Refuses a file system of the job's own that is hidden, in whole or in part, under another mount: it could not be read.
fn check_visible(root: i32, mount: &Mount, all: &[Mount]) -> CaptureResult<()> {
    let Some(over) = all.iter().find(|other| other.parent == mount.id) else { return Ok(()) };
    if over.point == mount.point {
        return Err(refused(
            root,
            mount,
            "another file system is mounted over it, so that it cannot be read",
            "Unmount what is over it",
        ));
    }
    Ok(())
}

/// A mount that cannot be saved.
fn refused(root: i32, mount: &Mount, reason: &str, remedy: &str) -> CaptureError {
    let (point, type_) = (String::from_utf8_lossy(&mount.point), &mount.fs_type);
    CaptureError::unsupported(root, format!("mount {point} ({type_}) of its mount namespace"), reason, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_part_of_a_file_system_is_seen() {
        assert_eq!(below(b"/a/b", b"/", b"/mnt").unwrap(), b"/mnt/a/b");
        assert_eq!(below(b"/a/b", b"/a", b"/mnt").unwrap(), b"/mnt/b");
        assert_eq!(below(b"/a", b"/a", b"/").unwrap(), b"/");
        assert_eq!(below(b"/ab", b"/a", b"/mnt"), None);
        assert_eq!(below(b"/b", b"/a", b"/mnt"), None);
    }
}
