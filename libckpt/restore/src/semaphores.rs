//! System V semaphores: sets under the ids that they had.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::SemaphoresV1;
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::sysv_sem::{self, Set};
use nix::errno::Errno;

/// The sets of a job. Those that were made go again when this is dropped before [`Self::keep`].
#[derive(Debug, Default)]
pub(crate) struct Semaphores {
    made: Vec<i32>,
}

impl Semaphores {
    /// Makes a set, or takes the one that a killed program left behind. Its values are set by a process of the job, so that they count as
    /// changed by it. `pids`: the job's.
    pub(crate) fn restore(
        &mut self,
        builder: &mut Builder<'_>,
        record: &SemaphoresV1,
        pids: &[i32],
    ) -> RestoreResult<()> {
        let &SemaphoresV1 { id, key, mode, owner, ref values } = record;
        let wanted = Set { id, key, mode, count: values.len(), owner };
        match sysv_sem::list()?.into_iter().find(|set| set.id == id) {
            Some(there) if (there.key, there.count) == (key, values.len()) => {
                let lives = |pid: &i32| !pids.contains(pid) && Stat::of(*pid, *pid).is_ok();
                if let Some(user) = sysv_sem::last_users(&there)?.into_iter().find(lives) {
                    return Err(taken(id, &format!("process {user} uses it")));
                }
            }
            Some(there) => {
                return Err(taken(
                    id,
                    &format!("it has key {:#x} and {} semaphores", there.key, there.count),
                ));
            }
            None => {
                let made = match sysv_sem::create(&wanted) {
                    Err(error) if error.errno() == Some(Errno::EEXIST) => {
                        return Err(taken(id, &format!("another set has its key {key:#x}")));
                    }
                    outcome => outcome?,
                };
                self.made.push(made);
                if made != id {
                    return Err(taken(id, "the kernel did not give it"));
                }
            }
        }
        sysv_sem::set_owner(&wanted)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let at = builder.place(&bytes)?.get();
        let set_all = u64::from(libc::SETALL.unsigned_abs());
        let args = [u64::from(id.unsigned_abs()), 0, set_all, at];
        builder.call("semctl(SETALL)", &format!("semaphore set {id}"), libc::SYS_semctl, &args)?;
        Ok(())
    }

    /// They are the job's now.
    pub(crate) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Semaphores {
    fn drop(&mut self) {
        for id in self.made.drain(..) {
            if let Err(error) = sysv_sem::remove(id) {
                tracing::warn!(%error, "a semaphore set stays");
            }
        }
    }
}

fn taken(id: i32, why: &str) -> RestoreError {
    RestoreError::Machine {
        reason: format!("the program's semaphore set {id} cannot have its id: {why}"),
        remedy: format!("Remove it (ipcs -s shows it, ipcrm -s {id}) and restore again"),
    }
}
