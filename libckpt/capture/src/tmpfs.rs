//! Files of a tmpfs or hugetlbfs that the job maps shared: their contents are memory, and would be gone after a reboot.
use crate::content;
use crate::error::CaptureResult;
use crate::objects::Objects;
use ckpt_image::page::Space;
use ckpt_image::record::TmpfsFileV1;
use ckpt_sys::SysError;
use nix::sys::statfs::{HUGETLBFS_MAGIC, TMPFS_MAGIC, fstatfs};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Adds the record and contents of the file with name `path` that `file` is a description of, if it is of a tmpfs or hugetlbfs and new.
pub(crate) fn capture(objects: &mut Objects, file: &File, path: &[u8]) -> CaptureResult<()> {
    let name = || String::from_utf8_lossy(path).into_owned();
    let system = fstatfs(file).map_err(|errno| SysError::new("fstatfs", name(), errno))?;
    if ![TMPFS_MAGIC, HUGETLBFS_MAGIC].contains(&system.filesystem_type()) {
        return Ok(());
    }
    let meta = file.metadata().map_err(|error| SysError::new("fstat", name(), error))?;
    let (id, new) = objects.shmem((meta.dev(), meta.ino()));
    if new {
        let owner = (meta.uid(), meta.gid());
        let mode = meta.mode() & 0o7777;
        objects.tmpfs_files.push(TmpfsFileV1 { id, path: path.to_vec(), size: meta.len(), mode, owner });
        content::copy(objects, file, Space::Shmem(id), meta.len())?;
    }
    Ok(())
}
