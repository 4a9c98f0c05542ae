//! Overlays: the directory that one writes to must be no other's, or both break (the kernel says so only in its log).
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::MountV1;
use ckpt_sys::canonical::Refusal;
use ckpt_sys::mount::overlay;
use ckpt_sys::namespace::Namespace;
use ckpt_sys::proc::mounts;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Refuses one whose upper directory a running process has in an overlay.
pub(super) fn check(wanted: &MountV1) -> RestoreResult<()> {
    let Some(upper) = overlay::upper(&wanted.options).filter(|_| wanted.fs_type == "overlay") else {
        return Ok(());
    };
    // The namespace that this process is in is to be the job's, and was made of one that all processes outside are in.
    let mut seen: HashSet<_> = Namespace::Mount.own().ok().flatten().into_iter().collect();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(Some(namespace)) = Namespace::Mount.of(pid) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let has = |mount: &mounts::Mount| {
            mount.fs_type == "overlay"
                && overlay::upper(&mount.options).as_ref() == Some(&upper)
                && is_same(pid, &upper)
        };
        // One that ends has none any more.
        let Some(mount) = mounts::of(pid).unwrap_or_default().into_iter().find(has) else { continue };
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        return Err(RestoreError::File {
            path: String::from_utf8_lossy(&upper).into_owned(),
            reason: format!(
                "what is written to the job's overlay at {} goes there, and process {pid} ({}) has an overlay over it as well, at {}: each would break the other",
                String::from_utf8_lossy(&wanted.point),
                name.trim(),
                String::from_utf8_lossy(&mount.point)
            ),
            remedy:
                "End what runs there, the job itself for instance (ckpt save JOB --stop), and restore again"
                    .into(),
        });
    }
    Ok(())
}

/// Device and inode of the directories that one is made of; None: there is nothing at that path.
///
/// # Errors
/// A symbolic link that is not to be followed leads there: the kernel would.
pub(super) fn directories(wanted: &MountV1) -> RestoreResult<Vec<Option<(u64, u64)>>> {
    if wanted.fs_type != "overlay" {
        return Ok(Vec::new());
    }
    let identity = |path: Vec<u8>| match canonical::open(&path, libc::O_PATH) {
        Err(link @ Refusal::Link { .. }) => Err(canonical::failed("open", &path, &link)),
        Err(Refusal::Errno(_)) => Ok(None),
        Ok(open) => Ok(File::from(open).metadata().ok().map(|meta| (meta.dev(), meta.ino()))),
    };
    overlay::directories(&wanted.options).into_iter().map(identity).collect()
}

/// The error of an overlay whose directories were not the same before and after it was made.
pub(super) fn changed(wanted: &MountV1) -> RestoreError {
    RestoreError::File {
        path: String::from_utf8_lossy(&wanted.point).into_owned(),
        reason: "the directories that the job's overlay there is made of were moved while it was made".into(),
        remedy: "Restore again".into(),
    }
}

/// Whether a path is the same directory for a process as it is here, as far as it is seen there.
fn is_same(pid: i32, path: &[u8]) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let path = Path::new(OsStr::from_bytes(path));
    let there = Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path));
    identity(&there).is_none_or(|there| Some(there) == identity(path))
}
