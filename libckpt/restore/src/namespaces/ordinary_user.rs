//! Restoring without privilege: a user namespace in which the user is who they were, and that gives the engine what a PID namespace needs.
use crate::error::RestoreResult;
use ckpt_image::ImageRecords;
use ckpt_image::record::{MessageQueueV1, SemaphoresV1, ShmemV1, UserNamespaceV1};
use ckpt_sys::{SysResult, spawn};
use nix::errno::Errno;

/// Whether this process may make processes with pids of its choice (CAP_CHECKPOINT_RESTORE in the user namespace that its PID namespace
/// belongs to).
///
/// # Errors
/// What clone3(2) says else.
pub(super) fn may_choose_pids() -> SysResult<bool> {
    let own = std::process::id().cast_signed();
    // The privilege is asked for before the pid is looked at, and this one is taken.
    match spawn::waiting_process(own, false) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(true),
        Err(error) if error.errno() == Some(Errno::EPERM) => Ok(false),
        Err(error) => Err(error),
        Ok(child) => {
            // In a namespace whose /proc is not ours the number may be free.
            // SAFETY: no pointers but a null one; the child is ours.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, std::ptr::null_mut(), libc::__WALL);
            }
            Ok(true)
        }
    }
}

/// One in which this process's user and group are themselves: all that a user may map without help.
pub(super) fn of_this_user() -> UserNamespaceV1 {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    UserNamespaceV1 { uid_map: vec![(uid, uid, 1)], gid_map: vec![(gid, gid, 1)], setgroups: false }
}

/// Whether the job has System V objects: their ids can be chosen in an IPC namespace of the user's own only.
pub(super) fn needs_ipc(image: &ImageRecords) -> RestoreResult<bool> {
    let has_segments = image.records::<ShmemV1>()?.iter().any(|shmem| shmem.segment.is_some());
    Ok(has_segments
        || !image.records::<SemaphoresV1>()?.is_empty()
        || !image.records::<MessageQueueV1>()?.is_empty())
}
