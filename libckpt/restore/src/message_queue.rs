//! System V message queues: under the ids that they had, with their messages.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::MessageQueueV1;
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::sysv_msg::{self, Queue};
use nix::errno::Errno;

/// The queues of a job. Those that were made go again when this is dropped before [`Self::keep`].
#[derive(Debug, Default)]
pub(crate) struct MessageQueues {
    made: Vec<i32>,
}

impl MessageQueues {
    /// Makes a queue, or takes the one that a killed program left behind, and fills it. `pids`: the job's.
    pub(crate) fn restore(
        &mut self,
        builder: &mut Builder<'_>,
        record: &MessageQueueV1,
        pids: &[i32],
    ) -> RestoreResult<()> {
        let &MessageQueueV1 { id, key, mode, owner, most_bytes, ref messages } = record;
        let wanted = Queue { id, key, mode, owner, last_users: (0, 0) };
        match sysv_msg::list()?.into_iter().find(|queue| queue.id == id) {
            Some(there) if there.key == key => {
                let (sender, receiver) = there.last_users;
                let lives = |pid: &i32| *pid != 0 && !pids.contains(pid) && Stat::of(*pid, *pid).is_ok();
                if let Some(user) = [sender, receiver].into_iter().find(lives) {
                    return Err(taken(id, &format!("process {user} uses it")));
                }
                while sysv_msg::receive(id)?.is_some() {}
            }
            Some(there) => return Err(taken(id, &format!("it has key {:#x}", there.key))),
            None => {
                let made = match sysv_msg::create(&wanted) {
                    Err(error) if error.errno() == Some(Errno::EEXIST) => {
                        return Err(taken(id, &format!("another queue has its key {key:#x}")));
                    }
                    outcome => outcome?,
                };
                self.made.push(made);
                if made != id {
                    return Err(taken(id, "the kernel did not give it"));
                }
            }
        }
        // It may have been made smaller than what was in it by then.
        let held: usize = messages.iter().map(|(_, data)| data.len()).sum();
        let needed = u64::try_from(held).unwrap_or(u64::MAX).max(most_bytes);
        if needed > sysv_msg::most_bytes(id)? {
            sysv_msg::set(&wanted, needed).map_err(|error| too_small(id, needed, "msgmnb", &error))?;
        }
        for (kind, data) in messages {
            sysv_msg::send(id, *kind, data).map_err(|error| {
                too_small(id, u64::try_from(data.len()).unwrap_or(u64::MAX), "msgmax", &error)
            })?;
        }
        use_by_the_job(builder, record)?;
        Ok(sysv_msg::set(&wanted, most_bytes)?)
    }

    /// They are the job's now.
    pub(crate) fn keep(mut self) {
        self.made.clear();
    }
}

/// Has a process of the job send a message and take it again: the last user is what a queue is known by.
fn use_by_the_job(builder: &mut Builder<'_>, record: &MessageQueueV1) -> RestoreResult<()> {
    let free = (1..).find(|kind| record.messages.iter().all(|(used, _)| used != kind)).unwrap_or(i64::MAX);
    let object = format!("message queue {}", record.id);
    let id = u64::from(record.id.unsigned_abs());
    let at = builder.place(&sysv_msg::message(free, &[]))?.get();
    let no_wait = u64::from(libc::IPC_NOWAIT.unsigned_abs());
    match builder.call("msgsnd", &object, libc::SYS_msgsnd, &[id, at, 0, no_wait]) {
        // As many messages as it may hold bytes.
        Err(RestoreError::Remote { errno: Errno::EAGAIN, .. }) => return Ok(()),
        sent => sent?,
    };
    let args = [id, at, 0, free.cast_unsigned(), no_wait];
    builder.call("msgrcv", &object, libc::SYS_msgrcv, &args)?;
    Ok(())
}

impl Drop for MessageQueues {
    fn drop(&mut self) {
        for id in self.made.drain(..) {
            if let Err(error) = sysv_msg::remove(id) {
                tracing::warn!(%error, "a message queue stays");
            }
        }
    }
}

fn taken(id: i32, why: &str) -> RestoreError {
    RestoreError::Machine {
        reason: format!("the program's message queue {id} cannot have its id: {why}"),
        remedy: format!("Remove it (ipcs -q shows it, ipcrm -q {id}) and restore again"),
    }
}

fn too_small(id: i32, bytes: u64, limit: &str, error: &ckpt_sys::SysError) -> RestoreError {
    RestoreError::Machine {
        reason: format!(
            "{bytes} bytes are more than the program's message queue {id} may take here: {}",
            error.source
        ),
        remedy: format!(
            "Raise the limit (sysctl kernel.{limit}={bytes}), or give ckpt CAP_SYS_RESOURCE, and restore again"
        ),
    }
}
