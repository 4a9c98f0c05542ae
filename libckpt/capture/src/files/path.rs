//! Regular files, directories and O_PATH handles: opened again by name; and regular files that have none any more.
use super::index::show;
use super::{Context, FoundFile};
use crate::content;
use crate::error::CaptureResult;
use crate::nameless::{User, capture_nameless};
use ckpt_image::record::{FileIdent, FileKindV1, GhostId};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Saves a regular file, a directory or an O_PATH handle.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let ident = ident(&file.meta);
    let is_file = file.meta.mode() & libc::S_IFMT == libc::S_IFREG;
    if file.meta.nlink() > 0 || !is_file {
        let path = name(context, file)?;
        return Ok(FileKindV1::Path { path, ident, ghost: None });
    }
    let path = file.path().to_vec();
    // To open a file for reading breaks a write lease.
    if context.index.locks(file).any(|line| line.starts_with("LEASE") && !line.contains(" READ ")) {
        return Err(context.unsupported(
            file,
            "it has no name any more, and a lease that keeps it from being read",
            "Release the lease before saving",
        ));
    }
    let ghost = match &mut context.objects {
        None => GhostId(0),
        Some(objects) => {
            // A description of our own: to look for holes moves the position.
            let own = content::open_link(file.place.0, &format!("fd/{}", file.place.1))?;
            content::ghost(objects, &own, &path)?
        }
    };
    Ok(FileKindV1::Path { path, ident, ghost: Some(ghost) })
}

/// The path of a file. One that its own path does not lead to is noted as such.
pub(super) fn name(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<Vec<u8>> {
    let leads = |path: &Path| {
        std::fs::symlink_metadata(path).is_ok_and(|found| {
            (found.dev(), found.ino()) == (file.meta.dev(), file.meta.ino())
            // A file system that gives each look another inode number.
            || found.mode() == file.meta.mode() && found.rdev() == file.meta.rdev() && is_pseudo(&file.link)
        })
    };
    let (further, holder) = (context.index.further(), context.index.holder(file));
    let mounts = further.mounts_of(holder);
    if let Some(at) = mounts
        && leads(&further.seen(holder, &file.link))
    {
        if let Some(objects) = &mut context.objects {
            objects.further_files.push((file.id, at));
        }
        return Ok(file.link.clone());
    }
    // Opened before the process had mounts of its own.
    if file.leads || leads(Path::new(OsStr::from_bytes(&file.link))) {
        return Ok(file.link.clone());
    }
    let saved = match &mut context.objects {
        _ if mounts.is_some() => false,
        None => true,
        Some(objects) => capture_nameless(objects, file.dup(), &file.meta, &file.link, User::File(file.id))?,
    };
    if saved {
        return Ok(file.path().to_vec());
    }
    let reason = if file.link.ends_with(b" (deleted)") {
        "its name was removed, and under what other name it can be found the kernel does not tell".to_owned()
    } else {
        format!("{} is not the same file any more", show(&file.link))
    };
    Err(context.unsupported(file, reason, "Close it before saving, or give it its name back"))
}

/// Files of /proc and /sys have no identity beyond their names.
fn is_pseudo(path: &[u8]) -> bool {
    path.starts_with(b"/proc/") || path.starts_with(b"/sys/")
}

/// What tells whether a file is still the same.
pub(crate) fn ident(meta: &Metadata) -> FileIdent {
    FileIdent {
        dev: meta.dev(),
        ino: meta.ino(),
        size: meta.size(),
        mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        mode: meta.mode(),
    }
}
