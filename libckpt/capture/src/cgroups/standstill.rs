//! A job that is alone in a group of version 2 stands still as a whole, by that group's freezer, while its threads are asked to stop: nobody is born
//! meanwhile who would have to be looked for. Where there is no such group, ptrace does it alone.
use super::{Groups, upwards};
use crate::error::{CaptureError, CaptureResult};
use ckpt_sys::cgroup::{Hierarchy, Keeper};
use ckpt_sys::proc::stat::Stat;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long all threads may take to freeze: one that waits in the kernel for long is left to ptrace, which can tell which one it is.
const LIMIT: Duration = Duration::from_millis(500);
/// Parents that are followed from a process upwards.
const GENERATIONS: usize = 64;
/// Says on a group's directory that a capture has frozen it.
const NOTE: &str = "user.ckpt.frozen";
const CONTROL: &str = "cgroup.freeze";

/// The group, and a process that thaws it should this one be killed.
#[derive(Debug)]
pub(crate) struct Standstill {
    directory: PathBuf,
    // Keeps the hierarchy open.
    _hierarchy: Option<Hierarchy>,
    control: File,
    events: File,
    keeper: Option<Keeper>,
    root: i32,
    /// The group is ours to thaw.
    begun: bool,
}

impl Standstill {
    /// None: there is no such group, or it may not be frozen. To be called while this process has one thread only.
    pub(crate) fn prepare(groups: &Groups<'_>, root: i32) -> Option<Self> {
        let members = groups.members.get("")?;
        let mut opened = None;
        let hierarchy = groups.hierarchy("", &mut opened).ok()?;
        let first = members.keys().next()?;
        let covers = |group: &&[u8]| {
            members.keys().all(|path| {
                path.strip_prefix(*group).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            })
        };
        let mut known = members.values().flatten().map(|(pid, _)| *pid).collect();
        // The lowest that holds all of the job.
        let group = upwards(first).find(covers).filter(|group| !group.starts_with(b"/.."))?;
        if !is_alone(hierarchy, group, root, &mut known) {
            return None;
        }
        let directory = hierarchy.directory(group)?;
        let control = OpenOptions::new().read(true).write(true).open(directory.join(CONTROL)).ok()?;
        let events = File::open(directory.join("cgroup.events")).ok()?;
        let keeper = Keeper::start(&mut [(control.try_clone().ok()?, "0")], false).ok();
        // Without anybody to thaw it nothing is frozen.
        let begun = false;
        keeper.is_some().then_some(Self {
            directory,
            _hierarchy: opened,
            control,
            events,
            keeper,
            root,
            begun,
        })
    }

    /// Freezes the group, and waits for it. What does not freeze in time runs on.
    ///
    /// # Errors
    /// Somebody else has frozen it since [`Self::prepare`]: it stays so.
    pub(crate) fn begin(&mut self) -> CaptureResult<()> {
        let mut now = String::new();
        let read = self.control.read_to_string(&mut now);
        if read.is_ok() && now.trim() == "1" {
            return Err(CaptureError::unsupported(
                self.root,
                format!("its control group {}", self.directory.display()),
                "somebody froze it while the save began",
                "Save again",
            ));
        }
        // Nobody would thaw it.
        let Some(Ok(())) = self.keeper.as_mut().map(Keeper::arm) else { return Ok(()) };
        self.begun = true;
        // A note that cannot be made is only missed if this process and the one that stands by are killed within these milliseconds.
        let _ = ckpt_sys::cgroup::set_note(&self.directory, NOTE, true);
        if self.control.write_all(b"1").is_ok() {
            self.wait();
        }
        Ok(())
    }

    fn wait(&mut self) {
        let begin = Instant::now();
        let mut text = String::new();
        loop {
            text.clear();
            let read =
                self.events.seek(SeekFrom::Start(0)).and_then(|_| self.events.read_to_string(&mut text));
            let left = LIMIT.saturating_sub(begin.elapsed());
            if read.is_err() || text.lines().any(|line| line == "frozen 1") || left.is_zero() {
                return;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(self.events.as_fd(), PollFlags::POLLPRI)], timeout);
        }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        if self.begun {
            if let Err(error) = self.control.write_all(b"0") {
                tracing::error!(%error, "{} stays frozen", self.directory.display());
            }
            let _ = ckpt_sys::cgroup::set_note(&self.directory, NOTE, false);
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.finish();
        }
    }
}

/// Thaws a group that a capture has left frozen. Whether it was one.
pub(super) fn recover(hierarchy: &Hierarchy, group: &[u8]) -> bool {
    let Some(directory) = hierarchy.directory(group) else { return false };
    if !hierarchy.is_v2() || !ckpt_sys::cgroup::has_note(&directory, NOTE) {
        return false;
    }
    let thawed = hierarchy.write(group, CONTROL, "0").is_ok();
    let _ = ckpt_sys::cgroup::set_note(&directory, NOTE, false);
    thawed
}

/// Whether a group and those below it hold nobody but descendants of process `root`. More than the `known` ones may have been born.
fn is_alone(hierarchy: &Hierarchy, group: &[u8], root: i32, known: &mut HashSet<i32>) -> bool {
    let text = match hierarchy.read(group, "cgroup.procs") {
        Ok(Some(text)) => text,
        // Of type `threaded`: its processes are those of the group above.
        Ok(None) => String::new(),
        Err(_) => return false,
    };
    let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    pids.into_iter().all(|pid| descends(pid, root, known))
        && hierarchy
            .children(group)
            .is_ok_and(|children| children.iter().all(|child| is_alone(hierarchy, child, root, known)))
}

fn descends(pid: i32, root: i32, known: &mut HashSet<i32>) -> bool {
    let mut at = pid;
    for _ in 0..GENERATIONS {
        if at == root || known.contains(&at) {
            known.insert(pid);
            return true;
        }
        match Stat::of(at, at) {
            Ok(stat) if stat.ppid > 0 => at = stat.ppid,
            // One that has ended meanwhile does no harm.
            Err(error) if error.is_gone() && at == pid && pid > 0 => return true,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_has_frozen_stays_frozen() {
        let directory = std::env::temp_dir().join(format!("ckpt-standstill-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join(CONTROL);
        std::fs::write(&path, "1\n").unwrap();
        let mut standstill = Standstill {
            directory: directory.clone(),
            _hierarchy: None,
            control: OpenOptions::new().read(true).write(true).open(&path).unwrap(),
            events: File::open(&path).unwrap(),
            keeper: None,
            root: 1,
            begun: false,
        };
        let refused = standstill.begin().unwrap_err().to_string();
        drop(standstill);
        let left = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(refused.contains("Save again"), "{refused}");
        assert_eq!(left, "1\n");
    }
}
