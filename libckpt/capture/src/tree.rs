//! The processes of a job: found from its root downwards, and stopped as one.
use crate::cgroups::{FrozenGroups, Standstill};
use crate::dead_task::capture_dead_task;
use crate::error::{CaptureError, CaptureResult};
use crate::freeze::{self, Freeze, Known, STOP_LIMIT};
use crate::orphans::{Orphans, Search};
use crate::{capture, departed};
use ckpt_image::record::DeadTaskV1;
use ckpt_sys::inject::Scratch;
use ckpt_sys::proc::{stand_in, stat::Stat, threads};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The living processes of the job, the root first, parents before their children. They run on all the while, so some may be gone by now.
pub(crate) fn members(root: i32, orphans: &Orphans) -> Vec<i32> {
    find_members(root, &Search::new(root, orphans), &BTreeSet::new())
}

fn find_members(root: i32, search: &Search<'_>, ordinary: &BTreeSet<i32>) -> Vec<i32> {
    let mut found = vec![root];
    let mut known = BTreeSet::from([root]);
    let mut at = 0;
    loop {
        let new = match found.get(at) {
            Some(&pid) => threads::children_beyond(pid, ordinary).unwrap_or_default(),
            None => search.find(&known),
        };
        let all = at >= found.len();
        at = (at + 1).min(found.len());
        let before = found.len();
        found.extend(new.into_iter().filter(|pid| !is_dead(*pid) && known.insert(*pid)));
        if all && found.len() == before {
            return found;
        }
    }
}

fn is_dead(pid: i32) -> bool {
    Stat::of(pid, pid).map_or(true, |stat| matches!(stat.state, 'Z' | 'X')) && !stand_in::look(pid)
}

/// One process all of whose threads are stopped.
#[derive(Debug)]
pub(crate) struct Member {
    /// Holds it.
    pub(crate) freeze: Freeze,
    /// Its parent, if that is of the job, else 0.
    pub(crate) parent: i32,
    /// Scratch areas of captures that were killed.
    pub(crate) leftovers: Vec<Scratch>,
}

impl Member {
    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.freeze.pid()
    }
}

/// A job all of whose processes are stopped. Dropping it lets them run.
#[derive(Debug)]
pub(crate) struct Tree {
    // First: they are frozen again before their processes are let go.
    frozen: FrozenGroups,
    members: Vec<Member>,
    /// Children that have ended, with their parents; 0: that is not of the job.
    dead: BTreeMap<i32, i32>,
    since: Instant,
}

impl Tree {
    /// Stops all processes of the job, those included that are born meanwhile: a process is asked for its children only when it is stopped
    /// and can make no more. Threads in `frozen` groups are held by the tree instead, and frozen again with its end.
    /// With a `standstill` nobody is born while they are asked. `ordinary`: threads that are known to be no workers of the kernel's.
    pub(crate) fn freeze(
        root: i32,
        orphans: &Orphans,
        mut frozen: FrozenGroups,
        standstill: Option<Standstill>,
        ordinary: BTreeSet<i32>,
    ) -> CaptureResult<Self> {
        let mut search = Search::new(root, orphans);
        let found = find_members(root, &search, &ordinary);
        search.exclude_strangers(&found.iter().copied().collect());
        let since = Instant::now();
        let mut known = Known { asked: BTreeSet::new(), ordinary };
        if !frozen.is_empty() {
            known.asked = freeze::ask(&found, &known.ordinary)?;
            frozen.thaw()?;
        } else if let Some(mut standstill) = standstill {
            standstill.begin()?;
            capture::point("capture.standstill")?;
            let found = find_members(root, &search, &known.ordinary);
            known.asked = freeze::ask(&found, &known.ordinary)?;
        }
        let (freeze, leftovers) = freeze::begin_recovered(root, &known)?;
        let members = vec![Member { freeze, parent: 0, leftovers }];
        let mut tree = Self { frozen, members, dead: BTreeMap::new(), since };
        let mut members = BTreeSet::from([root]);
        let mut dead = BTreeSet::new();
        loop {
            let before = (members.len(), dead.len());
            tree.dead.clear();
            let mut at = 0;
            // Again from the start whenever one was found, dead ones included: the child of one that died meanwhile is now the child of a
            // subreaper, perhaps one of the first.
            while at <= tree.members.len() {
                let (parent, children) = match tree.members.get(at) {
                    Some(member) => {
                        (member.pid(), threads::children_of(member.pid(), &member.freeze.tids())?)
                    }
                    None => (0, search.find(&members)),
                };
                at += 1;
                for child in children {
                    if members.contains(&child) {
                        continue;
                    }
                    if let Some((freeze, leftovers)) = begin_unless_dead(child, &known)? {
                        members.insert(child);
                        tree.members.push(Member { freeze, parent, leftovers });
                    } else {
                        dead.insert(child);
                        tree.dead.insert(child, parent);
                    }
                }
            }
            if (members.len(), dead.len()) == before {
                return Ok(tree);
            }
        }
    }

    /// Their pids.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.members.iter().map(Member::pid).collect()
    }

    /// Their pids and threads.
    pub(crate) fn threads(&self) -> impl Iterator<Item = (i32, Vec<i32>)> {
        self.members
            .iter()
            .map(|member| (member.pid(), departed::with_leader(member.pid(), member.freeze.tids())))
    }

    /// The groups that are frozen but for the tree.
    pub(crate) fn frozen_groups(&self) -> &FrozenGroups {
        &self.frozen
    }

    /// The processes, the root first, parents before their children; those without a parent in the job are its orphans.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Time since the first thread was asked to stop.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// The processes that have ended and that their parents have not waited for.
    pub(crate) fn dead(&self) -> CaptureResult<Vec<DeadTaskV1>> {
        let mut dead = Vec::new();
        for (&child, &parent) in self.dead.iter().filter(|(_, parent)| **parent != 0) {
            if is_zombie(child)? {
                dead.push(capture_dead_task(child, parent)?);
            }
        }
        Ok(dead)
    }

    /// Lets all processes run on.
    pub(crate) fn thaw(self) {
        drop(self.frozen);
        // Children first: a parent that waits for one finds it running.
        for member in self.members.into_iter().rev() {
            member.freeze.thaw();
        }
    }

    /// Kills all processes where they stand, and waits until they are gone but for their parents' waits.
    pub(crate) fn kill(self) -> CaptureResult<()> {
        // Children first.
        freeze::kill_all(self.members.into_iter().rev().map(|member| member.freeze).collect())
    }
}

/// None: it has ended.
fn begin_unless_dead(pid: i32, known: &Known) -> CaptureResult<Option<(Freeze, Vec<Scratch>)>> {
    if is_dead(pid) {
        return Ok(None);
    }
    match freeze::begin_recovered(pid, known).map_err(|error| error.or_exited(pid)) {
        Ok(frozen) => Ok(Some(frozen)),
        Err(CaptureError::Exited { .. } | CaptureError::NoProcess { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a process that could not be stopped, as it was about to end, is left as a zombie; its parent is stopped. If not, it is gone.
fn is_zombie(pid: i32) -> CaptureResult<bool> {
    let begin = Instant::now();
    loop {
        match Stat::of(pid, pid) {
            Ok(stat) if stat.state == 'Z' => return Ok(true),
            Err(error) if !error.is_gone() => return Err(error.into()),
            Ok(stat) if stat.state != 'X' => {}
            _ => return Ok(false),
        }
        if begin.elapsed() > STOP_LIMIT {
            return Err(CaptureError::Stuck { pid, tid: pid, place: " (it is about to end)".into() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
