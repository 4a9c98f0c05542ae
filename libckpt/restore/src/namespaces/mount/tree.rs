//! The files of a file system that lives in memory.
use crate::error::RestoreResult;
use ckpt_image::record::TreeFileV1;
use ckpt_sys::SysError;
use ckpt_sys::canonical::Place;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Makes `files` at a place, which may be a directory already, and below it. Nobody else changes anything there meanwhile.
pub(super) fn write(at: &Place, files: &[TreeFileV1]) -> RestoreResult<()> {
    let link = at.link();
    let top = link.as_path();
    if fs::symlink_metadata(top).is_ok_and(|found| found.is_symlink()) {
        return Err(SysError::new("open", top.to_string_lossy(), Errno::ELOOP).into());
    }
    for file in files {
        make(top, file)?;
    }
    // What is made in a directory changes its time.
    for file in files.iter().rev().filter(|file| file.link_to.is_none()) {
        let path = place(top, &file.path);
        let time =
            TimeSpec::new(file.mtime_ns.div_euclid(1_000_000_000), file.mtime_ns.rem_euclid(1_000_000_000));
        utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(|errno| SysError::new("utimensat", path.to_string_lossy(), errno))?;
    }
    Ok(())
}

fn place(top: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { top.to_owned() } else { top.join(OsStr::from_bytes(path)) }
}

fn make(top: &Path, file: &TreeFileV1) -> RestoreResult<()> {
    let path = place(top, &file.path);
    let failed = |call| {
        let object = path.to_string_lossy().into_owned();
        move |error: std::io::Error| SysError::new(call, object, error)
    };
    if let Some(first) = &file.link_to {
        return Ok(fs::hard_link(place(top, first), &path).map_err(failed("link"))?);
    }
    match file.mode & libc::S_IFMT {
        libc::S_IFDIR if file.path.is_empty() && path.is_dir() => {}
        libc::S_IFDIR => fs::create_dir(&path).map_err(failed("mkdir"))?,
        libc::S_IFREG => {
            let made = File::create_new(&path).map_err(failed("open"))?;
            made.write_all_at(&file.contents, 0).map_err(failed("write"))?;
        }
        libc::S_IFLNK => symlink(OsStr::from_bytes(&file.contents), &path).map_err(failed("symlink"))?,
        kind => mknod(&path, SFlag::from_bits_truncate(kind), Mode::empty(), file.device)
            .map_err(|errno| failed("mknod")(errno.into()))?,
    }
    lchown(&path, Some(file.owner.0), Some(file.owner.1)).map_err(failed("lchown"))?;
    if file.mode & libc::S_IFMT != libc::S_IFLNK {
        let permissions = fs::Permissions::from_mode(file.mode & 0o7777);
        fs::set_permissions(&path, permissions).map_err(failed("chmod"))?;
    }
    Ok(())
}
