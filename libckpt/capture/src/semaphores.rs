//! System V semaphores.
use crate::error::CaptureResult;
use crate::sysv_users::are_of_job;
use ckpt_image::record::SemaphoresV1;
use ckpt_sys::SysResult;
use ckpt_sys::sysv_sem::{self, Set};

/// The sets that processes of the job were the last to change or wait at, and no living process outside of it. `waits`: the ids of those that
/// threads of the job wait at.
pub(crate) fn capture_semaphores(pids: &[i32], waits: &[i32]) -> CaptureResult<Vec<SemaphoresV1>> {
    let mut found = Vec::new();
    for set in sysv_sem::list()? {
        match capture_set(&set, pids, waits.contains(&set.id)) {
            Ok(record) => found.extend(record),
            // Somebody outside has removed it meanwhile, or it is not for us to read.
            Err(error) => tracing::debug!(id = set.id, %error, "a semaphore set is left as it is"),
        }
    }
    Ok(found)
}

fn capture_set(set: &Set, pids: &[i32], waits: bool) -> SysResult<Option<SemaphoresV1>> {
    if !are_of_job(sysv_sem::last_users(set)?, waits, pids) {
        return Ok(None);
    }
    let Set { id, key, mode, owner, .. } = *set;
    Ok(Some(SemaphoresV1 { id, key, mode, owner, values: sysv_sem::values(set)? }))
}
