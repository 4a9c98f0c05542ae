//! Namespaces that processes of the job are in, but not its root. They are made before the processes, by a thread of ours that leaves them open;
//! each process is moved there at its birth, if its parent has not been.
use super::{mount, net, set_sysctls};
use crate::birth::{self, Family};
use crate::builder::Builder;
use crate::cgroups::Cgroups;
use crate::error::{RestoreError, RestoreResult};
use crate::files;
use crate::message_queue::MessageQueues;
use crate::semaphores::Semaphores;
use ckpt_image::Image;
use ckpt_image::record::{
    FurtherNamespaceV1, MessageQueueV1, MountV1, NamespaceContentsV1, NamespacesV1, OpenFileId, SemaphoresV1,
};
use ckpt_sys::SysError;
use ckpt_sys::namespace::{self, Namespace};
use nix::sched::{CloneFlags, unshare};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

mod cgroup;
mod pid;
mod time;
mod user;

/// The further namespaces of a job under construction. They go with this unless processes are in them.
#[derive(Debug, Default)]
pub(crate) struct Further {
    /// But those of pids and users, by their places among the records.
    places: BTreeMap<usize, Place>,
    users: BTreeMap<usize, user::Users>,
    /// Those of this process, and of the job's root.
    own: BTreeMap<Namespace, File>,
    /// Those of clocks that are made when the processes are there, one that another's maker is in before that.
    late_clocks: Vec<time::Late>,
}

#[derive(Debug)]
struct Place {
    namespace: Namespace,
    /// It was not there before.
    is_made: bool,
    open: File,
    /// Of a mount namespace: its root directory.
    root: Option<File>,
    members: Vec<i32>,
    files: Vec<OpenFileId>,
    semaphores: Vec<SemaphoresV1>,
    queues: Vec<MessageQueueV1>,
    /// Mounts that are made when the processes are there.
    late: Vec<MountV1>,
}

/// Which further namespaces processes are in, by pid and kind: indices of places.
pub(crate) type Whereabouts = BTreeMap<i32, BTreeMap<Namespace, usize>>;

impl Further {
    /// Makes all of an image, and what is in them; `cgroups`: where cgroup namespaces begin.
    pub(crate) fn make(image: &Image, cgroups: &Cgroups) -> RestoreResult<Self> {
        let records: Vec<FurtherNamespaceV1> = image.records()?;
        let mut made = Self::default();
        let own = image.records::<NamespacesV1>()?.into_iter().next().unwrap_or_default();
        let mut groups = own.mount.as_ref().map(mount::Groups::of_own).unwrap_or_default();
        let clocks = time::of_root(own.time, &image.inventory()?)?;
        for record in &records {
            if let NamespaceContentsV1::Net(net) = &record.contents {
                net::check(net)?;
            }
        }
        for (at, record) in records.iter().enumerate() {
            if let NamespaceContentsV1::User { parent, owner, ids, .. } = &record.contents {
                let parent = user::place(&made.users, *parent)?;
                made.users.insert(at, user::make(parent, *owner, ids, &record.members)?);
            }
        }
        for (at, FurtherNamespaceV1 { members, files, contents }) in records.iter().cloned().enumerate() {
            let Some(namespace) = kind(&contents) else { continue };
            let owner = user::owner_of(&records, &made.users, at);
            let own = namespace::open_own(namespace)?;
            let base = match &contents {
                NamespaceContentsV1::Mount { base: Some(base), .. } => {
                    usize::try_from(*base).ok().and_then(|base| made.places.get(&base))
                }
                _ => None,
            };
            let made_there = match contents {
                NamespaceContentsV1::Time { maker, monotonic_ns, boottime_ns } => {
                    let offsets = clocks.ahead_by([monotonic_ns, boottime_ns]);
                    if let Some(maker) = maker {
                        made.late_clocks.push(time::Late { maker, members, offsets });
                        continue;
                    }
                    Some(time::make(owner, offsets)?)
                }
                NamespaceContentsV1::Cgroup(_) => Some(cgroup::make(cgroups, owner, at)?),
                _ => owner.map(|owner| user::make_owned(owner, namespace, base, &contents)).transpose()?,
            };
            let (open, root) = match made_there {
                Some(open) if matches!(namespace, Namespace::Time | Namespace::Cgroup) => (open, None),
                made_there => {
                    let making = || make(namespace, &contents, (&own, base), made_there, &mut groups);
                    let open = std::thread::scope(|scope| scope.spawn(making).join());
                    open.map_err(|_| RestoreError::Inconsistent {
                        what: format!("making a {} namespace failed", namespace.name()),
                    })??
                }
            };
            made.own.insert(namespace, own);
            let is_made = !matches!(&contents, NamespaceContentsV1::Net(net) if net.path.is_some());
            let (mut semaphores, mut queues, mut late) = Default::default();
            match contents {
                NamespaceContentsV1::Ipc { semaphores: sets, queues: theirs, .. } => {
                    (semaphores, queues) = (sets, theirs);
                }
                NamespaceContentsV1::Mount { mounts, .. } => late = mount::late(&mounts),
                _ => {}
            }
            let place = Place { namespace, is_made, open, root, members, files, semaphores, queues, late };
            made.places.insert(at, place);
        }
        Ok(made)
    }

    /// Does something with this thread in the network namespace of an open file.
    pub(crate) fn in_net_of<T>(
        &self,
        file: OpenFileId,
        work: impl FnOnce() -> RestoreResult<T>,
    ) -> RestoreResult<T> {
        let place = self.net_of(file).map(|at| self.places[&at].open.as_fd());
        namespace::within(Namespace::Net, place, work)
    }

    /// Does something with this thread in the IPC namespace of an open file, and tells whether that is a further one.
    pub(crate) fn in_ipc_of<T>(
        &self,
        file: OpenFileId,
        work: impl FnOnce(bool) -> RestoreResult<T>,
    ) -> RestoreResult<T> {
        let is_its = |place: &&Place| place.namespace == Namespace::Ipc && place.files.contains(&file);
        let place = self.places.values().find(is_its).map(|place| place.open.as_fd());
        namespace::within(Namespace::Ipc, place, || work(place.is_some()))
    }

    /// Makes the System V objects of further IPC namespaces, by processes that are there. `pids`: the job's.
    pub(crate) fn restore_ipc(&self, family: &mut Family<'_>, pids: &[i32]) -> RestoreResult<()> {
        for place in self.places.values().filter(|place| place.namespace == Namespace::Ipc) {
            let Some(&pid) = place.members.first() else { continue };
            let builder = &mut birth::member(family, pid)?.builder;
            // What is made goes with the namespace, should this fail.
            namespace::within(Namespace::Ipc, Some(place.open.as_fd()), || -> RestoreResult<()> {
                let (mut semaphores, mut queues) = (Semaphores::default(), MessageQueues::default());
                for set in &place.semaphores {
                    semaphores.restore(builder, set, pids)?;
                }
                for queue in &place.queues {
                    queues.restore(builder, queue, pids)?;
                }
                semaphores.keep();
                queues.keep();
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether the network namespace of an open file is made of what the image has of it; None: it is in that of the job's root.
    pub(crate) fn makes_net_of(&self, file: OpenFileId) -> Option<bool> {
        self.net_of(file).map(|at| self.places[&at].is_made)
    }

    /// Whether two open files are in one network namespace.
    pub(crate) fn share_net(&self, one: OpenFileId, other: OpenFileId) -> bool {
        self.net_of(one) == self.net_of(other)
    }

    fn net_of(&self, file: OpenFileId) -> Option<usize> {
        let is_its = |place: &Place| place.namespace == Namespace::Net && place.files.contains(&file);
        self.places.iter().find(|(_, place)| is_its(place)).map(|(at, _)| *at)
    }

    /// The path by which this process finds what `path` led to where an open file belongs.
    pub(crate) fn seen_for<'p>(&self, file: OpenFileId, path: &'p [u8]) -> Cow<'p, [u8]> {
        self.seen(path, |place| place.files.contains(&file))
    }

    /// The path by which this process finds what `path` leads process `pid` to.
    pub(crate) fn seen_by<'p>(&self, pid: i32, path: &'p [u8]) -> Cow<'p, [u8]> {
        self.seen(path, |place| place.members.contains(&pid))
    }

    fn seen<'p>(&self, path: &'p [u8], is_its: impl Fn(&Place) -> bool) -> Cow<'p, [u8]> {
        match self.places.values().filter(|place| is_its(place)).find_map(|place| place.root.as_ref()) {
            Some(root) => {
                let view = format!("/proc/{}/fd/{}", std::process::id(), root.as_raw_fd());
                [view.as_bytes(), path].concat().into()
            }
            None => path.into(),
        }
    }

    /// Moves process `pid`, which `parent` has just made and whose calls go through `builder`, to the namespaces that it was in. One that is not of
    /// the job for good stays where it is.
    pub(crate) fn settle(
        &self,
        builder: &mut Builder<'_>,
        whereabouts: &mut Whereabouts,
        (pid, parent): (i32, i32),
        stays: bool,
    ) -> RestoreResult<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let mut now = whereabouts.get(&parent).cloned().unwrap_or_default();
        if stays {
            let theirs = self.places.iter().filter(|(_, place)| place.members.contains(&pid));
            let wanted: BTreeMap<Namespace, usize> =
                theirs.map(|(at, place)| (place.namespace, *at)).collect();
            for (namespace, own) in &self.own {
                if now.get(namespace) != wanted.get(namespace) {
                    let place = wanted.get(namespace).map_or(own, |at| &self.places[at].open);
                    enter(builder, *namespace, place.as_fd())?;
                }
            }
            now = wanted;
        }
        builder.apart |= now.contains_key(&Namespace::Mount);
        whereabouts.insert(pid, now);
        Ok(())
    }
}

/// None: it comes to be with its first process, or before all others.
fn kind(contents: &NamespaceContentsV1) -> Option<Namespace> {
    match contents {
        NamespaceContentsV1::Uts(_) => Some(Namespace::Uts),
        NamespaceContentsV1::Net(_) => Some(Namespace::Net),
        NamespaceContentsV1::Mount { .. } => Some(Namespace::Mount),
        NamespaceContentsV1::Ipc { .. } => Some(Namespace::Ipc),
        NamespaceContentsV1::Time { .. } => Some(Namespace::Time),
        NamespaceContentsV1::Cgroup(_) => Some(Namespace::Cgroup),
        NamespaceContentsV1::Pid { .. } | NamespaceContentsV1::User { .. } => None,
    }
}

/// In a thread of its own: makes a namespace, from `base` if there is one; `own` is the one that this process is in.
fn make(
    namespace: Namespace,
    contents: &NamespaceContentsV1,
    (own, base): (&File, Option<&Place>),
    made: Option<File>,
    groups: &mut mount::Groups,
) -> RestoreResult<(File, Option<File>)> {
    // The directories of a process are of one mount namespace.
    if namespace == Namespace::Mount {
        unshare(CloneFlags::CLONE_FS).map_err(|errno| SysError::new("unshare", "directories", errno))?;
    }
    if let Some(base) = base {
        namespace::join(base.open.as_fd(), &[namespace])?;
    }
    match contents {
        _ if made.is_some() => {
            made.map_or(Ok(()), |made| namespace::join(made.as_fd(), &[namespace]))?;
        }
        NamespaceContentsV1::Net(net) if net.path.is_some() => {
            net::join(net.path.as_deref().unwrap_or_default())?;
        }
        _ => namespace::unshare(&[namespace])?,
    }
    match contents {
        NamespaceContentsV1::Uts(uts) => namespace::set_names(&uts.hostname, &uts.domainname)?,
        NamespaceContentsV1::Net(net) => net::furnish(net, Some(own))?,
        NamespaceContentsV1::Mount { mounts, .. } => mount::furnish(Some(mounts), false, groups)?,
        NamespaceContentsV1::Ipc { settings, .. } => set_sysctls(&settings.sysctls),
        NamespaceContentsV1::Pid { .. }
        | NamespaceContentsV1::User { .. }
        | NamespaceContentsV1::Time { .. }
        | NamespaceContentsV1::Cgroup(_) => {}
    }
    let root = match namespace {
        Namespace::Mount => {
            let opened = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open("/");
            Some(opened.map_err(|error| SysError::new("open", "/", error))?)
        }
        _ => None,
    };
    Ok((namespace::open_own(namespace)?, root))
}

/// Has a process go to a namespace that we have a descriptor of.
pub(super) fn enter(
    builder: &mut Builder<'_>,
    namespace: Namespace,
    place: BorrowedFd<'_>,
) -> RestoreResult<()> {
    let object = format!("a {} namespace", namespace.name());
    let number = files::hand_over(builder, place)?;
    let flag = u64::from(namespace.flag().unsigned_abs());
    builder.call("setns", &object, libc::SYS_setns, &[number, flag])?;
    builder.call("close", &object, libc::SYS_close, &[number]).map(drop)
}
