//! Control groups: those of the job's that are gone are made again, and its processes and threads go where they were.
//!
//! All groups are made, and the files by which threads are moved are opened, outside of the job's namespaces: within, less is allowed.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::record::{CgroupHierarchyV1, CgroupV1, CgroupsV1, FurtherNamespaceV1, NamespaceContentsV1};
use ckpt_sys::SysError;
use ckpt_sys::cgroup::{self, Hierarchy};
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};

mod moved;
mod seats;
mod settings;

pub use moved::CgroupRoot;
pub(crate) use seats::Seats;

/// The control groups that a job comes back in. Dropping this removes those that were made for it.
#[derive(Debug, Default)]
pub struct Cgroups {
    places: Vec<Place>,
    kept: bool,
}

/// One hierarchy.
#[derive(Debug)]
struct Place {
    record: CgroupHierarchyV1,
    /// Where cgroup namespaces begin that the job's root is not in, by their places among the records.
    further_roots: BTreeMap<usize, Vec<u8>>,
    hierarchy: Hierarchy,
    /// Where this process is.
    ours: Vec<u8>,
    /// Groups that were made here, parents first.
    made: Vec<Vec<u8>>,
    /// By path.
    seats: BTreeMap<Vec<u8>, Seat>,
    /// Files of the group in which the job's cgroup namespace begins: it may not be able to open them.
    opened: BTreeMap<String, File>,
}

/// The files by which threads are moved to a group.
#[derive(Debug)]
struct Seat {
    processes: File,
    threads: File,
    /// Who is moved there can do no more work for us: it is frozen, or keeps devices away.
    last: bool,
}

impl Cgroups {
    /// Makes those that are gone. `roots`: where the job's groups go, if not to where they were. To be called outside of the job's namespaces.
    ///
    /// # Errors
    /// What the image does not hold, or the job's cgroup namespace begins in a frozen group.
    pub fn make(image: &Image, roots: &[CgroupRoot]) -> Result<Self, RestoreError> {
        let Some(record) = image.records::<CgroupsV1>()?.into_iter().next() else {
            return Ok(Self::default());
        };
        let here: BTreeMap<String, Vec<u8>> =
            cgroup::own()?.into_iter().map(|at| (at.hierarchy, at.path)).collect();
        let mut cgroups = Self::default();
        let further: Vec<FurtherNamespaceV1> = image.records()?;
        for hierarchy in record.hierarchies {
            let (hierarchy, further_roots) =
                moved::below(hierarchy.clone(), further_roots(&further, &hierarchy.name), roots);
            let ours = here.get(&hierarchy.name);
            let is_wanted = hierarchy.namespace_root.is_some()
                || !further_roots.is_empty()
                || hierarchy.groups.iter().any(|group| group.own)
                || hierarchy
                    .members
                    .iter()
                    .any(|members| ours.map_or(members.path != b"/", |at| *at != members.path));
            if !is_wanted {
                continue;
            }
            let name = &hierarchy.name;
            if ours.is_none() && !name.starts_with("name=") {
                tracing::warn!(
                    hierarchy = name,
                    "this machine has no such hierarchy of control groups: what the job's groups limited is not limited"
                );
                continue;
            }
            match Hierarchy::open(name) {
                Ok(open) => {
                    let ours = ours.cloned().unwrap_or_else(|| b"/".to_vec());
                    cgroups.places.push(Place::new(hierarchy, further_roots, open, ours));
                    // In the vector at once, so that what is made is removed again.
                    if let Some(place) = cgroups.places.last_mut() {
                        place.make()?;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the job stays in the control groups of the restoring command")
                }
            }
        }
        Ok(cgroups)
    }

    /// The job runs: they stay.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Moves this process to where a cgroup namespace begins, for as long as `work` takes: that of the job's root (None), or the further one of record `at`.
    pub(crate) fn in_roots_of<T>(
        &self,
        at: Option<usize>,
        work: impl FnOnce() -> Result<T, SysError>,
    ) -> Result<T, SysError> {
        let mut back = Vec::new();
        for place in &self.places {
            let root = match at {
                Some(at) => place.further_roots.get(&at),
                None => place.record.namespace_root.as_ref(),
            };
            let Some(root) = root else { continue };
            let (Some(there), Some(here)) = (place.seats.get(root), place.seats.get(&place.ours)) else {
                continue;
            };
            match place.write(&there.processes, root, "0") {
                Ok(()) => back.push((place, here)),
                Err(error) => {
                    tracing::warn!(%error, "a cgroup namespace of the job begins at the restoring command's group")
                }
            }
        }
        let outcome = work();
        for (place, here) in back {
            place.write(&here.processes, &place.ours, "0")?;
        }
        outcome
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for place in self.places.iter().rev() {
            for group in place.made.iter().rev() {
                let removed = place.hierarchy.directory(group).map(std::fs::remove_dir);
                if let Some(Err(error)) = removed {
                    tracing::warn!(%error, "{} stays", place.hierarchy.describe(group));
                }
            }
        }
    }
}

impl Place {
    fn new(
        record: CgroupHierarchyV1,
        further_roots: BTreeMap<usize, Vec<u8>>,
        hierarchy: Hierarchy,
        ours: Vec<u8>,
    ) -> Self {
        let (made, seats, opened) = Default::default();
        Self { record, further_roots, hierarchy, ours, made, seats, opened }
    }

    fn make(&mut self) -> RestoreResult<()> {
        let groups = std::mem::take(&mut self.record.groups);
        let outcome = groups
            .iter()
            .filter(|group| is_needed(group, &groups))
            .try_for_each(|group| self.make_group(group));
        self.record.groups = groups;
        outcome?;
        let root = self.record.namespace_root.clone();
        let members = self.record.members.iter().map(|members| members.path.clone());
        let further = self.further_roots.values().cloned();
        let wanted: HashSet<Vec<u8>> =
            members.chain(root.clone()).chain(further).chain([self.ours.clone()]).collect();
        for path in wanted {
            if let Some(seat) = self.open_seat(&path) {
                self.seats.insert(path, seat);
            }
        }
        if let Some(frozen) = root.iter().chain(self.further_roots.values()).find(|root| self.is_frozen(root))
        {
            return Err(RestoreError::Machine {
                reason: format!(
                    "{}, in which a cgroup namespace of the job begins, is frozen",
                    self.hierarchy.describe(frozen)
                ),
                remedy: "Thaw it, and restore again".into(),
            });
        }
        root.iter().for_each(|root| self.open_settings(root));
        Ok(())
    }

    /// Makes a group unless it is there. What cannot be done is told.
    fn make_group(&mut self, group: &CgroupV1) -> RestoreResult<()> {
        let Some(directory) = self.hierarchy.directory(&group.path) else { return Ok(()) };
        match std::fs::DirBuilder::new().mode(0o755).create(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "{} cannot be made again", self.hierarchy.describe(&group.path));
                return Ok(());
            }
        }
        self.made.push(group.path.clone());
        self.prepare(group);
        let (uid, gid) = group.owner;
        let owned = chown(&directory, Some(uid), Some(gid));
        let mode = std::fs::Permissions::from_mode(group.mode);
        if let Err(error) = owned.and_then(|()| std::fs::set_permissions(&directory, mode)) {
            tracing::warn!(%error, "{} keeps our owner", self.hierarchy.describe(&group.path));
        }
        Ok(())
    }

    /// None: nobody can be moved there; it is told.
    fn open_seat(&self, path: &[u8]) -> Option<Seat> {
        let group = self.hierarchy.describe(path);
        let directory = self.hierarchy.directory(path)?;
        let open = |name: &str| OpenOptions::new().write(true).open(directory.join(name));
        let threads = if self.hierarchy.is_v2() { "cgroup.threads" } else { "tasks" };
        match (open("cgroup.procs"), open(threads)) {
            (Ok(processes), Ok(threads)) => Some(Seat {
                processes,
                threads,
                last: self.is_frozen(path) || self.hierarchy.name().split(',').any(|name| name == "devices"),
            }),
            _ if path == self.ours => None,
            (Err(error), _) | (_, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(
                    "{group} is gone, and was not the job's alone: who was in it stays where the restoring command is"
                );
                None
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "nobody can be moved to {group}: who was in it stays where the restoring command is");
                None
            }
        }
    }

    /// Whether the group, or one above it, is frozen.
    fn is_frozen(&self, path: &[u8]) -> bool {
        let says = |group: &[u8], name: &str, frozen: &str| matches!(self.hierarchy.read(group, name), Ok(Some(text)) if text.trim() == frozen);
        if !self.hierarchy.is_v2() {
            return says(path, "freezer.self_freezing", "1") || says(path, "freezer.parent_freezing", "1");
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).skip(1);
        ends.chain([path.len()]).any(|end| says(&path[..end], "cgroup.freeze", "1"))
    }

    fn write(&self, mut file: &File, group: &[u8], text: &str) -> Result<(), SysError> {
        file.write_all(text.as_bytes())
            .map_err(|error| SysError::new("write", self.hierarchy.describe(group), error))
    }
}

/// Where further cgroup namespaces begin in a hierarchy, by their places among the records.
fn further_roots(records: &[FurtherNamespaceV1], hierarchy: &str) -> BTreeMap<usize, Vec<u8>> {
    let root = |(at, record): (usize, &FurtherNamespaceV1)| match &record.contents {
        NamespaceContentsV1::Cgroup(roots) => {
            let (_, root) = roots.iter().find(|(name, _)| name == hierarchy)?;
            Some((at, root.clone()))
        }
        _ => None,
    };
    records.iter().enumerate().filter_map(root).collect()
}

/// The job's own, and those that lead to them.
fn is_needed(group: &CgroupV1, all: &[CgroupV1]) -> bool {
    let is_below = |other: &CgroupV1| {
        other.path.strip_prefix(group.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
    };
    group.own || all.iter().any(|other| other.own && is_below(other))
}
