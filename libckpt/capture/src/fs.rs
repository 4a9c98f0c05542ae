//! Working directory, root directory, umask.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{FsId, FsV1};
use ckpt_sys::proc::{self, status::Status};
use std::os::unix::ffi::OsStringExt;

/// Saves the directories and the umask of process `pid`.
pub(crate) fn capture_fs(pid: i32) -> CaptureResult<FsV1> {
    let cwd = proc::read_link(pid, "cwd")?.into_os_string().into_vec();
    let root = proc::read_link(pid, "root")?.into_os_string().into_vec();
    for (what, path) in [("working directory", &cwd), ("root directory", &root)] {
        if path.ends_with(b" (deleted)") || !path.starts_with(b"/") {
            return Err(CaptureError::unsupported(
                pid,
                format!("its {what} ({})", String::from_utf8_lossy(path)),
                "the directory was removed or cannot be reached from here",
                "Let the program change to a directory that exists",
            ));
        }
    }
    Ok(FsV1 { id: FsId(pid.unsigned_abs()), cwd, root, umask: Status::of(pid, pid)?.octal("Umask")? })
}
