//! Whose a System V semaphore set or message queue is. The kernel does not tell who made one, only who changed it last; and
//! a thread's registers tell what it waits for.
use ckpt_sys::proc::{stand_in, stat::Stat};

/// The sets and queues that threads of a job wait at, as the system calls tell that the freeze interrupted.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Ids of semaphore sets.
    pub(crate) semaphores: Vec<i32>,
    /// Ids of message queues.
    pub(crate) queues: Vec<i32>,
}

impl Waits {
    /// Adds the call that a thread waits in: its number and first argument.
    pub(crate) fn add(&mut self, (nr, first): (u64, u64)) {
        let to = match i64::try_from(nr).unwrap_or(-1) {
            libc::SYS_semop | libc::SYS_semtimedop => &mut self.semaphores,
            libc::SYS_msgrcv | libc::SYS_msgsnd => &mut self.queues,
            _ => return,
        };
        // An int in the low half of the register.
        to.push(u32::try_from(first & 0xffff_ffff).unwrap_or(0).cast_signed());
    }
}

/// Whether an object is the job's (`pids`): one of its processes was among the last `users` or waits for it, and no living process outside was.
pub(crate) fn are_of_job(users: Vec<i32>, waits: bool, pids: &[i32]) -> bool {
    let (ours, others): (Vec<i32>, Vec<i32>) = users.into_iter().partition(|pid| pids.contains(pid));
    (waits || !ours.is_empty()) && !others.into_iter().any(lives)
}

fn lives(pid: i32) -> bool {
    Stat::of(pid, pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X')) || stand_in::look(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_outside_keeps_an_object_out() {
        let (own, living) = (1_000_000_000, std::process::id().cast_signed());
        assert!(are_of_job(vec![own], false, &[own]));
        assert!(are_of_job(vec![], true, &[own]));
        assert!(are_of_job(vec![own, own + 1], false, &[own]));
        assert!(!are_of_job(vec![own, living], true, &[own]));
        assert!(!are_of_job(vec![own + 1], false, &[own]));
    }
}
