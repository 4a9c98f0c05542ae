//! Processes of a job whose parents have ended. Where no process of the job adopts them, they are children of an ancestor of its root.
use crate::error::CaptureResult;
use ckpt_sys::proc::{self, stat::Stat, threads};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

/// The first process of a PID namespace.
const FIRST_PROCESS: i32 = 1;
/// What ckpt's own first process of a PID namespace is called.
const OWN_FIRST_PROCESS: &str = "ckpt-init";
/// Most ancestors that are looked at: against a loop through pids that are used again meanwhile.
const MOST_ANCESTORS: usize = 4096;

/// What is known of a job's orphans before they are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// The process that adopts them, and that has no other children but the job's root. None: who adopts them has other children, too. Then those
    /// are found that are in a session which a process of the job leads, and the `known` ones.
    pub keeper: Option<i32>,
    /// Processes that were of the job earlier, and when they were started (clock ticks, as in /proc/PID/stat).
    pub known: BTreeMap<i32, u64>,
}

/// A search for them.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    root: i32,
    orphans: &'a Orphans,
    /// Who may have adopted them.
    adopters: Vec<i32>,
    keeper: Option<i32>,
    /// Ourselves and our ancestors, who may descend from a job that started the daemon.
    own: Vec<i32>,
    /// Children of the adopters that were there before, and are not of the job.
    strangers: BTreeSet<i32>,
}

impl<'a> Search<'a> {
    /// Prepares one for the job whose root is process `root`.
    pub(crate) fn new(root: i32, orphans: &'a Orphans) -> Self {
        let mut adopters = ancestors(root);
        let first = proc::read_text(FIRST_PROCESS, "comm").unwrap_or_default();
        let keeper = if root != FIRST_PROCESS && first.trim() == OWN_FIRST_PROCESS && adopters.is_empty() {
            Some(FIRST_PROCESS)
        } else {
            orphans.keeper
        };
        if root != FIRST_PROCESS && !adopters.contains(&FIRST_PROCESS) {
            adopters.push(FIRST_PROCESS);
        }
        let own = std::process::id().cast_signed();
        let own = std::iter::once(own).chain(ancestors(own)).collect();
        Self { root, orphans, adopters, keeper, own, strangers: BTreeSet::new() }
    }

    /// Of the adopters' children, those that are not among the job's `members` now are not looked at again.
    pub(crate) fn exclude_strangers(&mut self, members: &BTreeSet<i32>) {
        if self.keeper.is_none() {
            self.strangers = self.adopted().filter(|pid| !members.contains(pid)).collect();
        }
    }

    /// The living orphans that are not among the job's `members`.
    pub(crate) fn find(&self, members: &BTreeSet<i32>) -> Vec<i32> {
        let new = |pid: &i32| {
            *pid != self.root
                && !members.contains(pid)
                && !self.own.contains(pid)
                && !self.strangers.contains(pid)
        };
        let Some(keeper) = self.keeper else {
            return self.adopted().filter(new).filter(|pid| self.is_of_job(*pid, members)).collect();
        };
        let adopted = threads::children(keeper).unwrap_or_default();
        adopted.into_iter().filter(new).filter(|pid| !is_daemon(*pid)).collect()
    }

    fn adopted(&self) -> impl Iterator<Item = i32> {
        let children = |pid: &i32| threads::children(*pid).unwrap_or_default();
        let adopted = self.adopters.iter().flat_map(children);
        adopted.filter(|pid| *pid != self.root && !self.adopters.contains(pid))
    }

    /// A session is left to one's children and joined in no other way.
    fn is_of_job(&self, pid: i32, members: &BTreeSet<i32>) -> bool {
        Stat::of(pid, pid).is_ok_and(|stat| {
            members.contains(&stat.session) || self.orphans.known.get(&pid) == Some(&stat.starttime)
        })
    }
}

/// The ancestors of a process, its parent first.
fn ancestors(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut at = pid;
    while let Ok(stat) = Stat::of(at, at)
        && stat.ppid > 0
        && found.len() < MOST_ANCESTORS
    {
        at = stat.ppid;
        found.push(at);
    }
    found
}

/// Daemons of ckpt's, their workers, and keepers of other jobs, which a program of the job may have started, are no part of it.
fn is_daemon(pid: i32) -> bool {
    let program = |pid: &str| {
        let program = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some((program.dev(), program.ino()))
    };
    let theirs = program(&pid.to_string());
    if theirs.is_none() || theirs != program("self") {
        return false;
    }
    let line = proc::read(pid, "cmdline").unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    words.next().is_some_and(|name| name.ends_with(b"ckptd"))
        || words.next().is_some_and(|command| command == b"daemon" || command.starts_with(b"__"))
}

/// When these processes were started; those that are gone are left out.
pub(crate) fn start_times(pids: impl Iterator<Item = i32>) -> CaptureResult<BTreeMap<i32, u64>> {
    let started = |pid: i32| match Stat::of(pid, pid) {
        Ok(stat) => Ok(Some((pid, stat.starttime))),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error.into()),
    };
    pids.filter_map(|pid| started(pid).transpose()).collect()
}
