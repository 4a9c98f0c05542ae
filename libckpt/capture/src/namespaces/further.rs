//! Namespaces that processes of the job are in, but not its root. What is in them is read by a thread that goes there for the time.
use super::{ipc, mount, net, uts_namespace};
use crate::cgroups::Groups;
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{DeadTaskV1, FurtherNamespaceV1, NamespaceContentsV1, OpenFileId};
use ckpt_sys::clocks::Offsets;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::proc::{self, mounts, mounts::Mount};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

mod cgroup;
mod pid;
mod time;
mod user;

/// The further namespaces of a job.
#[derive(Debug, Default)]
pub(crate) struct Further {
    /// Of the root.
    roots: Vec<(Namespace, PathBuf)>,
    places: Vec<Place>,
    /// All processes of the job.
    pids: Vec<i32>,
    /// Processes whose children are born in another PID namespace.
    makers: Vec<pid::Maker>,
    /// Clocks of the root.
    own_clocks: Offsets,
}

#[derive(Debug)]
struct Place {
    namespace: Namespace,
    /// As [`Namespace::of`] has it.
    link: PathBuf,
    open: File,
    members: Vec<i32>,
    /// Of a time namespace: processes that are not in it, and whose children are born there.
    makers: Vec<i32>,
    contents: Option<NamespaceContentsV1>,
}

impl Further {
    /// Those of a job's processes, its root first. This process is in all of the root's.
    pub(crate) fn find(pids: &[i32]) -> CaptureResult<Self> {
        let mut found = Self { pids: pids.to_vec(), ..Self::default() };
        let Some((&root, others)) = pids.split_first() else { return Ok(found) };
        for namespace in Namespace::ALL {
            let Some(roots) = namespace.of(root)? else { continue };
            for &pid in others {
                // It has ended, or does so right now.
                let Some(link) = alive(pid, namespace.of(pid))?.flatten() else { continue };
                if link == roots {
                    continue;
                }
                match found.places.iter_mut().find(|place| place.link == link) {
                    Some(place) => place.members.push(pid),
                    None => {
                        let Some(open) = alive(pid, namespace::open_of(pid, namespace))? else { continue };
                        let (members, makers) = (vec![pid], Vec::new());
                        found.places.push(Place { namespace, link, open, members, makers, contents: None });
                    }
                }
            }
            found.roots.push((namespace, roots));
        }
        for &pid in pids {
            found.makers.extend(alive(pid, pid::Maker::find(pid))?.flatten());
        }
        found.find_clock_makers(pids)?;
        if found.has(Namespace::Time) {
            found.own_clocks = Offsets::own()?;
        }
        found.sort()?;
        Ok(found)
    }

    /// Those of users first, as others belong to them; one that is within another after that.
    fn sort(&mut self) -> CaptureResult<()> {
        let mut keyed = Vec::with_capacity(self.places.len());
        for (at, place) in self.places.iter().enumerate() {
            keyed.push(match place.namespace {
                Namespace::User => (0, self.chain(at)?.len()),
                Namespace::Pid => (2, self.chain(at)?.len()),
                Namespace::Time => (1, self.clock_depth(at)),
                _ => (1, 0),
            });
        }
        let mut keys = keyed.into_iter();
        let mut places: Vec<_> = self.places.drain(..).map(|place| (keys.next(), place)).collect();
        places.sort_by_key(|(key, _)| *key);
        self.places = places.into_iter().map(|(_, place)| place).collect();
        Ok(())
    }

    /// The PID or user namespace `at`, the one that it is in, and so on below that of the job's root.
    fn chain(&self, at: usize) -> CaptureResult<Vec<usize>> {
        let mut chain = vec![at];
        let mut last = &self.places[at];
        loop {
            match self.with_link(&namespace::parent(last.open.as_fd())?) {
                Some(None) => return Ok(chain),
                Some(Some(parent)) if !chain.contains(&parent) => {
                    chain.push(parent);
                    last = &self.places[parent];
                }
                _ => {
                    let reason = "it is not the one that the job's root process is in, but within one that no process of the job is in";
                    return Err(last
                        .refuse(reason, "Protect the first process that is in it by itself (ckpt attach)"));
                }
            }
        }
    }

    /// Reads what is in those namespaces that take long to read, before the job is stopped.
    pub(crate) fn read_ahead(mut self, groups: &Groups<'_>) -> CaptureResult<Self> {
        for at in 0..self.places.len() {
            let place = &self.places[at];
            self.places[at].contents = match place.namespace {
                Namespace::Net => Some(place.read(&self.pids)?),
                Namespace::Time => Some(self.read_clocks(at)?),
                _ => continue,
            };
        }
        self.read_cgroups(groups)?;
        Ok(self)
    }

    /// Finds them again now that all processes stand still, and takes over what was read.
    pub(crate) fn again(self, pids: &[i32], groups: &Groups<'_>) -> CaptureResult<Self> {
        let mut found = Self::find(pids)?;
        for mut before in self.places {
            if let Some(place) = found.places.iter_mut().find(|place| place.link == before.link) {
                place.contents = before.contents.take();
            }
        }
        found.read_cgroups(groups)?;
        Ok(found)
    }

    /// What of them cannot be saved.
    pub(crate) fn check(&self) -> Vec<CaptureError> {
        let check = |(at, place): (usize, &Place)| match place.namespace {
            Namespace::Mount => self.check_mounts(at),
            Namespace::Pid => self.read_pids(at, &[]).map(drop),
            Namespace::User => self.check_users(at),
            Namespace::Time => self.check_clocks(at),
            _ => place.read(&self.pids).map(drop),
        };
        let found = self.places.iter().enumerate().filter_map(|place| check(place).err());
        found.chain(self.check_makers().err()).collect()
    }

    fn check_mounts(&self, at: usize) -> CaptureResult<()> {
        let place = &self.places[at];
        place.check_view()?;
        mount::check(place.members[0], &self.base(at)?.1)
    }

    fn read_mounts(&self, at: usize) -> CaptureResult<NamespaceContentsV1> {
        let place = &self.places[at];
        place.check_view()?;
        let (base, outer) = self.base(at)?;
        let mut mounts = mount::capture(place.members[0], &outer)?;
        self.find_procs(place, &mut mounts)?;
        Ok(NamespaceContentsV1::Mount { base: base.and_then(|base| u32::try_from(base).ok()), mounts })
    }

    /// The mount namespace that one is made from, and the mounts there: an earlier one if both have a file system that the root's has not.
    fn base(&self, at: usize) -> CaptureResult<(Option<usize>, mount::Outer)> {
        let roots = mounts::own()?;
        let has = |mounts: &[Mount], device: &str| mounts.iter().any(|mount| mount.device == device);
        let own = mounts::of(self.places[at].members[0])?;
        for (base, place) in self.places[..at].iter().enumerate() {
            if place.namespace != Namespace::Mount {
                continue;
            }
            let theirs = mounts::of(place.members[0])?;
            if own.iter().any(|mount| has(&theirs, &mount.device) && !has(&roots, &mount.device)) {
                return Ok((Some(base), mount::Outer::of(place.members[0])?));
            }
        }
        Ok((None, mount::Outer::own()?))
    }

    /// Whether there are any of a kind.
    pub(crate) fn has(&self, namespace: Namespace) -> bool {
        self.places.iter().any(|place| place.namespace == namespace)
    }

    /// All of a kind, the root's first, as [`Self::place`] takes them.
    pub(crate) fn all(&self, namespace: Namespace) -> impl Iterator<Item = Option<usize>> {
        let others = self.places.iter().enumerate().filter(move |(_, place)| place.namespace == namespace);
        std::iter::once(None).chain(others.map(|(at, _)| Some(at)))
    }

    /// The namespace with this link: Some(None) is the root's.
    pub(crate) fn with_link(&self, link: &Path) -> Option<Option<usize>> {
        if self.roots.iter().any(|(_, roots)| roots == link) {
            return Some(None);
        }
        self.places.iter().position(|place| place.link == link).map(Some)
    }

    /// A descriptor of a namespace; None is the root's, which this process is in.
    pub(crate) fn place(&self, at: Option<usize>) -> Option<BorrowedFd<'_>> {
        at.and_then(|at| self.places.get(at)).map(|place| place.open.as_fd())
    }

    /// The mount namespace that process `pid` is in, as [`Self::place`] takes it; None: the root's.
    pub(crate) fn mounts_of(&self, pid: i32) -> Option<usize> {
        self.of(Namespace::Mount, pid)
    }

    /// The namespace of a kind that process `pid` is in, as [`Self::place`] takes it; None: the root's.
    pub(crate) fn of(&self, namespace: Namespace, pid: i32) -> Option<usize> {
        let is_its = |place: &Place| place.namespace == namespace && place.members.contains(&pid);
        self.places.iter().position(is_its)
    }

    /// Whether the one that [`Self::place`] takes `at` for is a mount namespace.
    pub(crate) fn is_mounts(&self, at: usize) -> bool {
        self.places.get(at).is_some_and(|place| place.namespace == Namespace::Mount)
    }

    /// The path by which this process finds what `path` leads process `pid` to.
    pub(crate) fn seen(&self, pid: i32, path: &[u8]) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(path));
        match self.mounts_of(pid) {
            Some(at) => self.places[at].view().join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Whether `path` leads process `pid` to a file, the one with `meta`, that it does not lead the job's root to.
    pub(crate) fn is_hidden(&self, pid: i32, path: &[u8], meta: &Metadata) -> bool {
        let found = || std::fs::symlink_metadata(OsStr::from_bytes(path));
        self.mounts_of(pid).is_some()
            && !found().is_ok_and(|found| (found.dev(), found.ino()) == (meta.dev(), meta.ino()))
    }

    /// The records of them; `files`: which open files belong to which.
    pub(crate) fn capture(
        &self,
        files: &[(OpenFileId, usize)],
        dead: &[DeadTaskV1],
    ) -> CaptureResult<Vec<FurtherNamespaceV1>> {
        self.check_makers()?;
        let mut records = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            let contents = match &place.contents {
                _ if place.namespace == Namespace::Time => self.read_clocks(at)?,
                Some(contents) => contents.clone(),
                None if place.namespace == Namespace::Mount => self.read_mounts(at)?,
                None if place.namespace == Namespace::Pid => self.read_pids(at, dead)?,
                None if place.namespace == Namespace::User => self.read_users(at)?,
                None => place.read(&self.pids)?,
            };
            let files = files.iter().filter(|(_, of)| *of == at).map(|(file, _)| *file).collect();
            records.push(FurtherNamespaceV1 { members: place.members.clone(), files, contents });
        }
        Ok(records)
    }
}

impl Place {
    fn read(&self, pids: &[i32]) -> CaptureResult<NamespaceContentsV1> {
        let pid = self.members[0];
        let outer =
            if self.namespace == Namespace::Net { net::Outer::of(pid)? } else { net::Outer::default() };
        let read = || match self.namespace {
            Namespace::Net => Ok(NamespaceContentsV1::Net(net::capture(pid, &outer)?)),
            Namespace::Ipc => ipc::capture(&self.members, pids),
            _ => Ok(NamespaceContentsV1::Uts(uts_namespace()?)),
        };
        namespace::within(self.namespace, Some(self.open.as_fd()), read).map_err(|error| self.refused(error))
    }

    /// Of a mount namespace: the path of its root directory here. One of the members shows it.
    fn view(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.members[0]))
    }

    /// Whether paths can be followed there, and the processes be restored there.
    fn check_view(&self) -> CaptureResult<()> {
        if proc::read_link(self.members[0], "root")? != Path::new("/") {
            return Err(self.refuse(
                "it is not the one that the job's root process is in, and the process has changed its root directory there (chroot)",
                "Protect the first process that is in it by itself (ckpt attach)",
            ));
        }
        Ok(())
    }

    fn refused(&self, error: CaptureError) -> CaptureError {
        match error {
            CaptureError::Sys(error) if error.errno() == Some(Errno::EPERM) => self.refuse(
                "it is not the one that the job's root process is in, and ckpt may not go into it",
                "Run ckpt as root",
            ),
            error => error,
        }
    }

    fn refuse(&self, reason: &str, remedy: &str) -> CaptureError {
        let object = format!("{} namespace {}", self.namespace.name(), self.link.display());
        // One that nobody is in has who asked for it.
        let pid = self.members.first().or(self.makers.first()).copied().unwrap_or_default();
        CaptureError::unsupported(pid, object, reason, remedy)
    }
}

/// None: process `pid` has ended, or is about to.
fn alive<T>(pid: i32, outcome: ckpt_sys::SysResult<T>) -> CaptureResult<Option<T>> {
    match outcome.map_err(|error| CaptureError::from(error).or_exited(pid)) {
        Ok(value) => Ok(Some(value)),
        Err(CaptureError::Exited { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
