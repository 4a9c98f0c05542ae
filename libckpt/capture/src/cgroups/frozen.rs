//! Frozen control groups. The threads in them can be stopped, but run no system calls for us: such groups are thawed while the threads are held by
//! ptrace, and frozen again before they are let go. A process stands by that freezes them should this one be killed meanwhile.
use super::{Groups, standstill, upwards};
use crate::error::{CaptureError, CaptureResult};
use ckpt_sys::cgroup::{Hierarchy, Keeper};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;

const FREEZER: &str = "freezer";

/// Groups that are frozen, and that we keep thawed from [`Self::thaw`] on until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct FrozenGroups {
    groups: Vec<FrozenGroup>,
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct FrozenGroup {
    hierarchy: String,
    path: Vec<u8>,
    control: File,
}

impl FrozenGroups {
    /// Those that threads of the job are in, and those that cannot be thawed as they hold others, too.
    pub(super) fn find(groups: &Groups<'_>) -> CaptureResult<(Self, Vec<CaptureError>)> {
        let (mut found, mut refused) = (Self::default(), Vec::new());
        for (name, members) in &groups.members {
            if !has_freezer(name) {
                continue;
            }
            let tids: HashSet<i32> = members.values().flatten().map(|(_, tid)| *tid).collect();
            let mut seen = HashSet::new();
            for (path, threads) in members {
                for group in upwards(path).filter(|group| !group.starts_with(b"/..")) {
                    let mut opened = None;
                    // Where it cannot be looked at, it is not ours to thaw.
                    let Ok(hierarchy) = groups.hierarchy(name, &mut opened) else { break };
                    if !seen.insert(group)
                        || !is_frozen(hierarchy, group)
                        || standstill::recover(hierarchy, group)
                    {
                        continue;
                    }
                    let (pid, _) = threads[0];
                    match FrozenGroup::open(hierarchy, group, &tids, pid) {
                        Ok(frozen) => found.groups.push(frozen),
                        Err(error) => refused.push(error),
                    }
                }
            }
        }
        Ok((found, refused))
    }

    /// Those that threads of the job are in.
    ///
    /// # Errors
    /// One holds others, too, or no process can be made that stands by.
    pub(crate) fn of(groups: &Groups<'_>) -> CaptureResult<Self> {
        let (found, refused) = Self::find(groups)?;
        match refused.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    /// No thread of the job is frozen.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// This group is one of them.
    pub(crate) fn has(&self, hierarchy: &str, path: &[u8]) -> bool {
        self.groups.iter().any(|group| group.hierarchy == hierarchy && group.path == path)
    }

    /// A process from now on sees to it that they are frozen when this one is gone. To be called while this process has one thread only.
    pub(crate) fn stand_by(&mut self) -> CaptureResult<()> {
        if self.is_empty() {
            return Ok(());
        }
        let copy = |group: &FrozenGroup| Ok((group.control.try_clone()?, group.word(true)));
        let files: std::io::Result<Vec<_>> = self.groups.iter().map(copy).collect();
        let mut files = files.map_err(|error| ckpt_sys::SysError::new("dup", "a control group", error))?;
        self.keeper = Some(Keeper::start(&mut files, true)?);
        Ok(())
    }

    /// Thaws them. All their threads must have been asked to stop.
    pub(crate) fn thaw(&mut self) -> CaptureResult<()> {
        for group in &mut self.groups {
            group.set(false)?;
        }
        Ok(())
    }
}

impl Drop for FrozenGroups {
    fn drop(&mut self) {
        for group in &mut self.groups {
            if let Err(error) = group.set(true) {
                tracing::error!(%error, "the control group was frozen before the checkpoint, and is not now");
            }
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.finish();
        }
    }
}

impl FrozenGroup {
    fn open(hierarchy: &Hierarchy, path: &[u8], tids: &HashSet<i32>, pid: i32) -> CaptureResult<Self> {
        let refused = |reason: String, remedy: &str| {
            let object = format!("{}, which is frozen,", hierarchy.describe(path));
            CaptureError::unsupported(pid, object, reason, remedy)
        };
        if !holds_only(hierarchy, path, tids) {
            return Err(refused(
                "it holds processes that are not of the job and would run while the job is looked at".into(),
                "Thaw it, or freeze a group that holds nothing but the job",
            ));
        }
        let name = if hierarchy.is_v2() { "cgroup.freeze" } else { "freezer.state" };
        let opened =
            hierarchy.directory(path).map(|path| OpenOptions::new().write(true).open(path.join(name)));
        match opened {
            Some(Ok(control)) => {
                Ok(Self { hierarchy: hierarchy.name().to_owned(), path: path.to_vec(), control })
            }
            Some(Err(error)) => Err(refused(format!("{name}: {error}"), "Run ckpt as root, or thaw it")),
            None => Err(refused("it cannot be reached from here".into(), "Thaw it")),
        }
    }

    fn word(&self, frozen: bool) -> &'static str {
        match (self.hierarchy.is_empty(), frozen) {
            (true, true) => "1",
            (true, false) => "0",
            (false, true) => "FROZEN",
            (false, false) => "THAWED",
        }
    }

    fn set(&mut self, frozen: bool) -> CaptureResult<()> {
        let word = self.word(frozen);
        self.control.write_all(word.as_bytes()).map_err(|error| {
            ckpt_sys::SysError::new("write", ckpt_sys::cgroup::describe(&self.hierarchy, &self.path), error)
                .into()
        })
    }
}

fn has_freezer(hierarchy: &str) -> bool {
    hierarchy.is_empty() || hierarchy.split(',').any(|controller| controller == FREEZER)
}

/// Whether a group is frozen by itself, not only with one above it.
pub(super) fn is_frozen(hierarchy: &Hierarchy, group: &[u8]) -> bool {
    if !has_freezer(hierarchy.name()) {
        return false;
    }
    let name = if hierarchy.is_v2() { "cgroup.freeze" } else { "freezer.self_freezing" };
    matches!(hierarchy.read(group, name), Ok(Some(text)) if text.trim() == "1")
}

fn holds_only(hierarchy: &Hierarchy, group: &[u8], tids: &HashSet<i32>) -> bool {
    super::Ownership { hierarchy, tids, known: std::collections::HashMap::new() }.is_own(group)
}
