//! System V semaphores. The kernel does not tell who made a set, only who changed each semaphore last: by that a set is known as the job's.
use crate::error::CaptureResult;
use ckpt_image::record::SemaphoresV1;
use ckpt_sys::SysResult;
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::sysv_sem::{self, Set};

/// The sets that processes of the job were the last to change, and no living process outside of it.
pub(crate) fn capture_semaphores(pids: &[i32]) -> CaptureResult<Vec<SemaphoresV1>> {
    let mut found = Vec::new();
    for set in sysv_sem::list()? {
        match capture_set(&set, pids) {
            Ok(record) => found.extend(record),
            // Somebody outside has removed it meanwhile, or it is not for us to read.
            Err(error) => tracing::debug!(id = set.id, %error, "a semaphore set is left as it is"),
        }
    }
    Ok(found)
}

fn capture_set(set: &Set, pids: &[i32]) -> SysResult<Option<SemaphoresV1>> {
    let users = sysv_sem::last_users(set)?;
    let (ours, others): (Vec<i32>, Vec<i32>) = users.into_iter().partition(|pid| pids.contains(pid));
    if ours.is_empty() || others.into_iter().any(lives) {
        return Ok(None);
    }
    let Set { id, key, mode, owner, .. } = *set;
    Ok(Some(SemaphoresV1 { id, key, mode, owner, values: sysv_sem::values(set)? }))
}

fn lives(pid: i32) -> bool {
    Stat::of(pid, pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}
