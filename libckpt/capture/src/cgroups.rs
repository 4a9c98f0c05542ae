//! Control groups: who of the job is where, and what is set for the groups that the job has for itself.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{CgroupFileV1, CgroupHierarchyV1, CgroupMembersV1, CgroupV1, CgroupsV1};
use ckpt_sys::cgroup::{self, Hierarchy, Membership};
use ckpt_sys::proc::threads;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

mod files;
mod frozen;
mod standstill;

pub(crate) use frozen::FrozenGroups;
pub(crate) use standstill::Standstill;

/// Hierarchies as they are seen from outside of the job's namespaces.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    hierarchies: Vec<Hierarchy>,
    /// Where the job's root process is, seen from there, if the job has a cgroup namespace for itself.
    root: Option<Vec<Membership>>,
}

impl Outside {
    /// To be called before this process goes into the job's namespaces. `own`: process `pid`, the job's root, has a cgroup namespace of its own.
    pub(crate) fn look(pid: i32, own: bool) -> CaptureResult<Self> {
        let root = cgroup::of(pid, pid)?;
        // What cannot be opened here is said when it is needed.
        let hierarchies = root.iter().filter_map(|at| Hierarchy::open(&at.hierarchy).ok()).collect();
        Ok(Self { hierarchies, root: own.then_some(root) })
    }
}

/// The threads, each with its process, of a hierarchy's groups by path.
type Members = BTreeMap<Vec<u8>, Vec<(i32, i32)>>;

/// Where a thread is, in each hierarchy; those that are where others are have the same.
type Places = Rc<[Membership]>;

/// The groups of a job.
#[derive(Debug)]
pub(crate) struct Groups<'a> {
    outside: &'a Outside,
    /// The root of the job's cgroup namespace in each hierarchy. None: it is not known.
    roots: HashMap<String, Option<Vec<u8>>>,
    /// Where each thread is: by hierarchy, by path as seen from outside.
    members: BTreeMap<String, Members>,
    /// As the kernel tells it.
    told: HashMap<i32, Places>,
    /// What is set for groups, as it was right before the job was stopped.
    settings: HashMap<(String, Vec<u8>), Vec<CgroupFileV1>>,
    /// Clones of processes, which are where those are and count for nobody.
    clones: Vec<i32>,
}

impl<'a> Groups<'a> {
    /// The same while these clones are there.
    pub(crate) fn beside(self, clones: Vec<i32>) -> Self {
        Self { clones, ..self }
    }

    /// Those that the threads of these processes are in, the root process first. One that has ended is in none.
    pub(crate) fn read(pids: &[i32], outside: &'a Outside) -> CaptureResult<Self> {
        let threads = pids.iter().map(|&pid| (pid, threads::list(pid).unwrap_or_default()));
        Self::read_again(threads, outside, None)
    }

    /// As [`Self::read`], and what is set for those that are the job's own.
    pub(crate) fn read_settings(pids: &[i32], outside: &'a Outside) -> CaptureResult<Self> {
        let mut groups = Self::read(pids, outside)?;
        let record = groups.capture(&FrozenGroups::default())?;
        for hierarchy in record.hierarchies {
            for group in hierarchy.groups {
                groups.settings.insert((hierarchy.name.clone(), group.path), group.files);
            }
        }
        Ok(groups)
    }

    /// As [`Self::read`], of processes that stand still, and these threads of theirs. The threads of one whose first thread is where it was are, too, and what
    /// is set for a group is what was set a moment ago: this is the job's pause.
    pub(crate) fn read_again(
        processes: impl Iterator<Item = (i32, Vec<i32>)>,
        outside: &'a Outside,
        known: Option<Self>,
    ) -> CaptureResult<Self> {
        let (told, settings) = known.map_or_else(Default::default, |known| (known.told, known.settings));
        let (roots, members) = (HashMap::new(), BTreeMap::new());
        let mut groups = Self { outside, roots, members, told: HashMap::new(), settings, clones: Vec::new() };
        // A thousand threads are in few places.
        let mut places: Vec<(Places, Vec<(i32, i32)>)> = Vec::new();
        for (pid, tids) in processes {
            if let Some(root) = outside.root.as_ref().filter(|_| groups.roots.is_empty()) {
                let within = cgroup::of(pid, pid)?;
                let find = |at: &Membership| {
                    let seen = within.iter().find(|seen| seen.hierarchy == at.hierarchy)?;
                    namespace_root(&at.path, &seen.path)
                };
                groups.roots = root.iter().map(|at| (at.hierarchy.clone(), find(at))).collect();
            }
            let mut stayed = false;
            for tid in tids {
                let found = match told.get(&tid).filter(|_| tid != pid && stayed) {
                    Some(found) => Rc::clone(found),
                    None => match cgroup::of(pid, tid) {
                        Err(error) if error.is_gone() => continue,
                        found => found?.into(),
                    },
                };
                if tid == pid {
                    stayed = told.get(&pid) == Some(&found);
                }
                let place = places.iter_mut().find(|(at, _)| Rc::ptr_eq(at, &found) || *at == found);
                let found = match place {
                    Some((at, there)) => {
                        there.push((pid, tid));
                        Rc::clone(at)
                    }
                    None => {
                        places.push((Rc::clone(&found), vec![(pid, tid)]));
                        found
                    }
                };
                groups.told.insert(tid, found);
            }
        }
        for (place, threads) in places {
            for at in &*place {
                let path = groups.outer(at);
                let there = groups.members.entry(at.hierarchy.clone()).or_default();
                there.entry(path).or_default().extend(&threads);
            }
        }
        Ok(groups)
    }

    /// The path of a group as it is seen from outside.
    pub(crate) fn outer(&self, at: &Membership) -> Vec<u8> {
        match self.roots.get(&at.hierarchy) {
            Some(Some(root)) => below(root, &at.path),
            _ => at.path.clone(),
        }
    }

    /// The record of them. `frozen`: groups that are frozen but for us.
    pub(crate) fn capture(&self, frozen: &FrozenGroups) -> CaptureResult<CgroupsV1> {
        let one = |(name, members): (&String, &Members)| {
            let tids =
                members.values().flatten().map(|(_, tid)| *tid).chain(self.clones.iter().copied()).collect();
            let root = self.roots.get(name).cloned();
            if root == Some(None) {
                tracing::warn!(
                    hierarchy = name,
                    "the root of the cgroup namespace is not known: it will begin at the restoring command's group"
                );
            }
            let groups = if members.keys().all(|path| path == b"/") || root == Some(None) {
                Vec::new()
            } else {
                self.groups(name, members.keys(), &tids, frozen)?
            };
            Ok(CgroupHierarchyV1 {
                name: name.clone(),
                namespace_root: root.flatten(),
                groups,
                members: members
                    .iter()
                    .map(|(path, threads)| CgroupMembersV1 { path: path.clone(), threads: threads.clone() })
                    .collect(),
            })
        };
        Ok(CgroupsV1 { hierarchies: self.members.iter().map(one).collect::<CaptureResult<_>>()? })
    }

    /// The groups on the way to `paths`, and all that is below such as hold nobody but `tids`.
    fn groups<'p>(
        &self,
        name: &str,
        paths: impl Iterator<Item = &'p Vec<u8>>,
        tids: &HashSet<i32>,
        frozen: &FrozenGroups,
    ) -> CaptureResult<Vec<CgroupV1>> {
        let mut opened = None;
        let hierarchy = match self.hierarchy(name, &mut opened) {
            Ok(hierarchy) => hierarchy,
            Err(error) => {
                tracing::warn!(%error, "what is set for the job's control groups is not saved");
                return Ok(Vec::new());
            }
        };
        let mut ownership = Ownership { hierarchy, tids, known: HashMap::new() };
        let mut found = BTreeMap::new();
        for path in paths.filter(|path| !path.starts_with(b"/..")) {
            let mut top = None;
            for group in upwards(path) {
                let own = ownership.is_own(group);
                found.insert(group.to_vec(), own);
                top = if own { Some(group) } else { top };
            }
            let mut below: Vec<Vec<u8>> = top.iter().map(|top| top.to_vec()).collect();
            while let Some(group) = below.pop() {
                below.extend(hierarchy.children(&group).unwrap_or_default());
                found.insert(group, true);
            }
        }
        let one = |(path, own): (&Vec<u8>, &bool)| {
            let known = self.settings.get(&(name.to_owned(), path.clone())).cloned();
            capture_group(hierarchy, path, *own, frozen, known)
        };
        Ok(found.iter().filter_map(one).collect())
    }

    fn hierarchy<'h>(
        &'h self,
        name: &str,
        opened: &'h mut Option<Hierarchy>,
    ) -> CaptureResult<&'h Hierarchy> {
        match self.outside.hierarchies.iter().find(|hierarchy| hierarchy.name() == name) {
            Some(hierarchy) => Ok(hierarchy),
            None => Ok(opened.insert(Hierarchy::open(name)?)),
        }
    }
}

/// What of the control groups of these processes stands in the way of a checkpoint. They run on all the while.
pub(crate) fn check(pids: &[i32], outside: &Outside) -> CaptureResult<Vec<CaptureError>> {
    let groups = Groups::read(pids, outside)?;
    Ok(FrozenGroups::find(&groups)?.1)
}

/// The root of a cgroup namespace: the group `outer`, as it is seen from outside, is `inner` within. None: it is not below the root.
pub(crate) fn namespace_root(outer: &[u8], inner: &[u8]) -> Option<Vec<u8>> {
    let root = outer.strip_suffix(inner.strip_suffix(b"/").unwrap_or(inner))?;
    (!inner.starts_with(b"/..")).then(|| if root.is_empty() { b"/".to_vec() } else { root.to_vec() })
}

/// The group that is `inner` where `root` is the root.
fn below(root: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = root.split(|byte| *byte == b'/').filter(|word| !word.is_empty()).collect();
    for word in inner.split(|byte| *byte == b'/').filter(|word| !word.is_empty()) {
        match word {
            b".." => drop(words.pop()),
            word => words.push(word),
        }
    }
    let path = words.iter().fold(Vec::new(), |path, word| [&path, &b"/"[..], word].concat());
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// A group and those above it but for the root, the deepest first.
fn upwards(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    fn up<'p>(path: &&'p [u8]) -> Option<&'p [u8]> {
        path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at])
    }
    let from = path.strip_suffix(b"/").unwrap_or(path);
    std::iter::successors(Some(from), up).take_while(|path| !path.is_empty())
}

/// Which groups hold nobody but these threads.
struct Ownership<'a> {
    hierarchy: &'a Hierarchy,
    tids: &'a HashSet<i32>,
    known: HashMap<Vec<u8>, bool>,
}

impl Ownership<'_> {
    fn is_own(&mut self, group: &[u8]) -> bool {
        if let Some(known) = self.known.get(group) {
            return *known;
        }
        let threads = match self.hierarchy.threads(group) {
            // Made for threads, but not yet of a type that can have any.
            Err(error) if error.errno() == Some(nix::errno::Errno::EOPNOTSUPP) => Ok(Vec::new()),
            threads => threads,
        };
        let own = threads.is_ok_and(|threads| threads.iter().all(|tid| self.tids.contains(tid)))
            && self
                .hierarchy
                .children(group)
                .is_ok_and(|children| children.iter().all(|child| self.is_own(child)));
        self.known.insert(group.to_vec(), own);
        own
    }
}

/// None: it is gone.
fn capture_group(
    hierarchy: &Hierarchy,
    path: &[u8],
    own: bool,
    frozen: &FrozenGroups,
    known: Option<Vec<CgroupFileV1>>,
) -> Option<CgroupV1> {
    let metadata = std::fs::metadata(hierarchy.directory(path)?).ok()?;
    Some(CgroupV1 {
        path: path.to_vec(),
        own,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        frozen: own && (frozen.has(hierarchy.name(), path) || frozen::is_frozen(hierarchy, path)),
        files: known.unwrap_or_else(|| files::capture(hierarchy, path, own)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_namespace() {
        assert_eq!(namespace_root(b"/a/b", b"/b").unwrap(), b"/a");
        assert_eq!(namespace_root(b"/a/b", b"/").unwrap(), b"/a/b");
        assert_eq!(namespace_root(b"/a/b", b"/a/b").unwrap(), b"/");
        assert_eq!(namespace_root(b"/", b"/").unwrap(), b"/");
        assert_eq!(namespace_root(b"/a", b"/../a"), None);
        assert_eq!(below(b"/a/b", b"/../c"), b"/a/c");
        assert_eq!(below(b"/a", b"/"), b"/a");
        assert_eq!(below(b"/", b"/"), b"/");
    }

    #[test]
    fn the_groups_above() {
        assert_eq!(upwards(b"/a/b").collect::<Vec<_>>(), [&b"/a/b"[..], b"/a"]);
        assert_eq!(upwards(b"/").count(), 0);
    }
}
