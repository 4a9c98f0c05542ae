//! PID namespaces that processes of the job are in, but not its root: the ids that are known there, and the proc file systems that show them.
use super::{Further, Place, alive};
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{DeadTaskV1, MountNamespaceV1, MountOriginV1, MountV1, NamespaceContentsV1};
use ckpt_sys::SysResult;
use ckpt_sys::namespace::Namespace;
use ckpt_sys::proc::mounts::{self, Mount};
use ckpt_sys::proc::{self, stat::Stat, status::Status, threads};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const REMEDY: &str = "Protect the first process that is in it by itself (ckpt attach)";

/// A process whose children are born in another PID namespace than its own.
#[derive(Debug)]
pub(super) struct Maker {
    pid: i32,
    /// As [`Namespace::of`] has it; None: it comes to be with the first child.
    link: Option<PathBuf>,
}

impl Maker {
    /// None: the children of process `pid` are born where it is.
    pub(super) fn find(pid: i32) -> SysResult<Option<Self>> {
        let Some(own) = Namespace::Pid.of(pid)? else { return Ok(None) };
        match proc::read_link(pid, "ns/pid_for_children") {
            Ok(link) => Ok((link != own).then_some(Self { pid, link: Some(link) })),
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                let ends = Stat::of(pid, pid).map_or(true, |stat| stat.is_exiting());
                Ok((!ends).then_some(Self { pid, link: None }))
            }
            Err(error) => Err(error),
        }
    }
}

/// The ids of one namespace.
#[derive(Debug, Default)]
struct Ids {
    known: BTreeSet<(i32, i32)>,
    /// Process groups of its members that have no id in it.
    groups_outside: BTreeSet<i32>,
}

impl Ids {
    /// Adds those of line `name` of a status: the first is that in the namespace of the job's root, number `depth` that in this one. Whether there is one.
    fn add(&mut self, status: &Status, name: &str, depth: usize) -> Option<i32> {
        let ids = status.ids(name);
        let outer = ids.first().copied().filter(|id| *id != 0)?;
        match ids.get(depth) {
            Some(&inner) if inner != 0 => {
                self.known.insert((outer, inner));
                None
            }
            _ => Some(outer),
        }
    }

    fn add_process(&mut self, status: &Status, depth: usize, is_member: bool) {
        self.add(status, "NSpid", depth);
        self.add(status, "NSsid", depth);
        let group = self.add(status, "NSpgid", depth);
        self.groups_outside.extend(group.filter(|_| is_member));
    }
}

impl Further {
    /// What is to be known of the PID namespace `at` to make it again, and its processes; `dead`: zombies.
    pub(super) fn read_pids(&self, at: usize, dead: &[DeadTaskV1]) -> CaptureResult<NamespaceContentsV1> {
        let place = &self.places[at];
        let chain = self.chain(at)?;
        let depth = chain.len();
        let mut ids = Ids::default();
        for &pid in &self.pids {
            let Some(home) = self.of(Namespace::Pid, pid) else { continue };
            if !self.chain(home)?.contains(&at) {
                continue;
            }
            let Some(tids) = alive(pid, threads::list(pid))? else { continue };
            for tid in tids {
                let Some(status) = alive(pid, Status::of(pid, tid))? else { continue };
                if tid == pid {
                    ids.add_process(&status, depth, home == at);
                } else {
                    ids.add(&status, "NSpid", depth);
                }
            }
        }
        for zombie in dead {
            let link = Namespace::Pid.of(zombie.pid)?;
            let home = self.places.iter().position(|place| Some(&place.link) == link.as_ref());
            let Some(home) = home else { continue };
            if self.chain(home)?.contains(&at) {
                ids.add_process(&Status::of(zombie.pid, zombie.pid)?, depth, home == at);
            }
        }
        let first = ids.known.iter().find(|(_, inner)| *inner == 1);
        if first.is_none_or(|(outer, _)| !self.pids.contains(outer)) {
            let reason = "it is not the one that the job's root process is in, and its first process is not of the job";
            return Err(place.refuse(reason, "Save the tree that has both"));
        }
        if ids.groups_outside.len() > 1 {
            let groups: Vec<String> = ids.groups_outside.iter().map(i32::to_string).collect();
            let groups = groups.join(", ");
            let reason = format!(
                "it is not the one that the job's root process is in, and its processes are in more than one process group from outside ({groups})"
            );
            return Err(place.refuse(&reason, REMEDY));
        }
        if let (Some(&group), Some((first, _))) = (ids.groups_outside.first(), first) {
            let order = self.order(dead)?;
            let at = |pid: i32| order.iter().position(|other| *other == pid);
            if at(group).is_some_and(|leader| Some(leader) > at(*first)) {
                let reason = format!(
                    "its processes are in the process group {group} from outside, whose leader comes after its first process {first} in the tree of processes"
                );
                return Err(place.refuse(&reason, REMEDY));
            }
        }
        let makers = self.makers.iter().filter(|maker| maker.link.as_ref() == Some(&place.link));
        Ok(NamespaceContentsV1::Pid {
            parent: chain.get(1).and_then(|parent| u32::try_from(*parent).ok()),
            ids: ids.known.into_iter().collect(),
            makers: makers.map(|maker| maker.pid).collect(),
        })
    }

    /// All processes in the order in which they are made: parents before their children, and one child with all that descends from it before the next.
    fn order(&self, dead: &[DeadTaskV1]) -> CaptureResult<Vec<i32>> {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let Some((&root, others)) = self.pids.split_first() else { return Ok(Vec::new()) };
        for &pid in others {
            let Some(stat) = alive(pid, Stat::of(pid, pid))? else { continue };
            let parent = if self.pids.contains(&stat.ppid) { stat.ppid } else { root };
            children.entry(parent).or_default().push(pid);
        }
        dead.iter().for_each(|zombie| children.entry(zombie.ppid).or_default().push(zombie.pid));
        let (mut order, mut left) = (Vec::new(), vec![root]);
        while let Some(pid) = left.pop() {
            order.push(pid);
            left.extend(children.remove(&pid).unwrap_or_default().into_iter().rev());
        }
        Ok(order)
    }

    /// Refuses processes whose children would be born where none of the job is.
    pub(super) fn check_makers(&self) -> CaptureResult<()> {
        for maker in &self.makers {
            let (reason, remedy) = match &maker.link {
                None => (
                    "it has asked for a new one (unshare), and has made no process there",
                    "Save when it has started its first child",
                ),
                Some(link) if self.with_link(link).is_none() => (
                    "no process of the job is in it, so that it cannot be made again",
                    "Save while a process is there, or let this one end",
                ),
                Some(_) => continue,
            };
            let object = "the PID namespace of its children";
            return Err(CaptureError::unsupported(maker.pid, object, reason, remedy));
        }
        Ok(())
    }

    /// Tells which of the mounts of `place` are proc file systems that show a further PID namespace.
    pub(super) fn find_procs(&self, place: &Place, mounts: &mut MountNamespaceV1) -> CaptureResult<()> {
        let mut shown = BTreeMap::new();
        for other in self.places.iter().filter(|other| other.namespace == Namespace::Mount) {
            for (mount, link) in visible_procs(other)? {
                shown.insert(mount.device, link);
            }
        }
        let mut all = mounts::of(place.members[0])?.into_iter();
        for mount in &mut mounts.mounts {
            // Some are left out.
            let is = |now: &Mount| {
                (&now.point, &now.root, &now.fs_type) == (&mount.point, &mount.root, &mount.fs_type)
            };
            let Some(now) = all.find(is) else { break };
            if mount.fs_type != "proc" || mount.root != b"/" {
                continue;
            }
            let link = shown.get(&now.device);
            match (link.map(|link| self.with_link(link)), &mount.origin) {
                (Some(Some(Some(at))), _) => {
                    mount.origin = MountOriginV1::Proc(u32::try_from(at).unwrap_or(u32::MAX));
                }
                (Some(None), MountOriginV1::Own(_)) => {
                    let point = String::from_utf8_lossy(&mount.point);
                    let reason = format!(
                        "{point} is a proc file system of a PID namespace that no process of the job is in"
                    );
                    return Err(place.refuse(&reason, "Unmount it before saving"));
                }
                _ => {}
            }
        }
        check_on_procs(place, &mounts.mounts)
    }
}

/// Refuses mounts on, or of parts of, proc file systems that are mounted late.
fn check_on_procs(place: &Place, mounts: &[MountV1]) -> CaptureResult<()> {
    let is_late = |mount: &MountV1| matches!(mount.origin, MountOriginV1::Proc(_));
    for (at, mount) in mounts.iter().enumerate().filter(|(_, mount)| !is_late(mount)) {
        let is_on = |proc: &MountV1| {
            is_late(proc)
                && mount.point.strip_prefix(&proc.point[..]).is_some_and(|rest| rest.starts_with(b"/"))
        };
        let is_part = match mount.origin {
            MountOriginV1::Part { of, .. } => {
                usize::try_from(of).ok().and_then(|of| mounts.get(of)).is_some_and(is_late)
            }
            _ => false,
        };
        if is_part || mount.origin != MountOriginV1::Outside && mounts[..at].iter().any(is_on) {
            let point = String::from_utf8_lossy(&mount.point);
            let reason = format!(
                "{point} is mounted on a proc file system of a PID namespace that the job's root is not in"
            );
            return Err(place.refuse(&reason, "Unmount it before saving"));
        }
    }
    Ok(())
}

/// The proc file systems of a mount namespace that no other mount covers, and the PID namespaces that they show.
fn visible_procs(place: &Place) -> CaptureResult<Vec<(Mount, PathBuf)>> {
    let view = place.view();
    let mut points = BTreeSet::new();
    let mut found = Vec::new();
    for mount in mounts::of(place.members[0])?.into_iter().rev() {
        if !points.insert(mount.point.clone()) || mount.fs_type != "proc" || mount.root != b"/" {
            continue;
        }
        let point = Path::new(OsStr::from_bytes(&mount.point));
        let first = view.join(point.strip_prefix("/").unwrap_or(point)).join("1/ns/pid");
        // One of a namespace that has ended shows nobody.
        found.push((mount, std::fs::read_link(first).unwrap_or_default()));
    }
    Ok(found)
}
