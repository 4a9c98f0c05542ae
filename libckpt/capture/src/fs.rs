//! Working directory, root directory, umask.
use crate::error::{CaptureError, CaptureResult};
use crate::nameless::{User, capture_nameless};
use crate::objects::Objects;
use ckpt_image::record::{FsId, FsV1};
use ckpt_sys::SysError;
use ckpt_sys::proc::{self, stand_in, status::Status};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;

/// Saves the directories and the umask of process `pid`.
pub(crate) fn capture_fs(pid: i32, objects: &mut Objects) -> CaptureResult<FsV1> {
    let mut cwd = proc::read_link(pid, "cwd")?.into_os_string().into_vec();
    let root = proc::read_link(pid, "root")?.into_os_string().into_vec();
    let id = FsId(pid.unsigned_abs());
    let is_gone = |path: &[u8]| path.ends_with(b" (deleted)") || !path.starts_with(b"/");
    let has_own_mounts = objects.further.mounts_of(pid).is_some();
    if is_gone(&cwd) && cwd.starts_with(b"/") && !has_own_mounts {
        let link = proc::path(pid, "cwd");
        let failed = |error| SysError::new("open", link.clone(), error);
        let opened = File::options().read(true).custom_flags(libc::O_PATH).open(&link).map_err(failed)?;
        let meta = opened.metadata().map_err(failed)?;
        if capture_nameless(objects, opened.as_fd(), &meta, &cwd, User::Directory(id))? {
            cwd.truncate(cwd.len() - b" (deleted)".len());
        }
    }
    for (what, path) in [("working directory", &cwd), ("root directory", &root)] {
        if is_gone(path) {
            return Err(CaptureError::unsupported(
                pid,
                format!("its {what} ({})", String::from_utf8_lossy(path)),
                "the directory was removed or cannot be reached from here",
                "Let the program change to a directory that exists",
            ));
        }
    }
    Ok(FsV1 { id, cwd, root, umask: Status::of(pid, stand_in::of(pid))?.octal("Umask")? })
}
