//! The job's processes, as the server and the guard find them.
use crate::error::RestoreResult;
use ckpt_sys::pidfd;
use ckpt_sys::proc::{stat::Stat, threads};
use std::collections::BTreeSet;

/// The parent of the job's root process and of all its orphans.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keeper {
    pid: i32,
    start_time: u64,
}

impl Keeper {
    /// This process.
    pub(super) fn own() -> RestoreResult<Self> {
        let pid = nix::unistd::getpid().as_raw();
        Ok(Self { pid, start_time: Stat::of(pid, pid)?.starttime })
    }

    /// All processes of the job that are to be found by it, and by those of `known`.
    pub(super) fn job(self, known: impl IntoIterator<Item = i32>) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        let mut next: Vec<i32> = known.into_iter().collect();
        if Stat::of(self.pid, self.pid).is_ok_and(|stat| stat.starttime == self.start_time) {
            next.extend(threads::children(self.pid).unwrap_or_default());
        }
        while let Some(pid) = next.pop() {
            if found.insert(pid) {
                next.extend(threads::children(pid).unwrap_or_default());
            }
        }
        found
    }
}

/// The processes behind all pidfds of this process.
pub(super) fn behind_pidfds() -> Vec<i32> {
    let list = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = list.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(pidfd::pid).collect()
}
