//! User namespaces that the job's root is not in. They are made first; namespaces that belong to one are made by processes of ours that are there. A process of the
//! job goes there late: until then it may do what restoring it takes.
use super::{Further, Place, enter};
use crate::builder::Builder;
use crate::creds;
use crate::error::{RestoreError, RestoreResult};
use crate::namespaces::{handshake, mount, write_maps};
use crate::records::Records;
use ckpt_image::record::{FurtherNamespaceV1, NamespaceContentsV1, UserNamespaceV1};
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::{SysError, SysResult, spawn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

/// A user namespace.
#[derive(Debug)]
pub(super) struct Users {
    open: File,
    ids: UserNamespaceV1,
    members: Vec<i32>,
}

impl Users {
    /// Moves this process there.
    pub(super) fn join(&self) -> SysResult<()> {
        namespace::join(self.open.as_fd(), &[Namespace::User])
    }
}

/// The namespace that a record names.
pub(super) fn place(users: &BTreeMap<usize, Users>, at: Option<u32>) -> RestoreResult<Option<&Users>> {
    let Some(at) = at else { return Ok(None) };
    let found = usize::try_from(at).ok().and_then(|at| users.get(&at));
    let missing = || RestoreError::Inconsistent { what: format!("user namespace {at} is not in it") };
    found.map(Some).ok_or_else(missing)
}

/// The one that the namespace of record `at` belongs to; None: that of the job's root.
pub(super) fn owner_of<'u>(
    records: &[FurtherNamespaceV1],
    users: &'u BTreeMap<usize, Users>,
    at: usize,
) -> Option<&'u Users> {
    let owns = |record: &FurtherNamespaceV1| match &record.contents {
        NamespaceContentsV1::User { owns, .. } => owns.iter().any(|owned| usize::try_from(*owned) == Ok(at)),
        _ => false,
    };
    records.iter().position(owns).and_then(|owner| users.get(&owner))
}

/// Makes one within `parent`; `owner`: who made it.
pub(super) fn make(
    parent: Option<&Users>,
    owner: u32,
    ids: &UserNamespaceV1,
    members: &[i32],
) -> RestoreResult<Users> {
    let written = match parent {
        Some(parent) => within(ids, &parent.ids)?,
        None => ids.clone(),
    };
    let middle = || {
        let failed = |error| SysError::new("pipe2", "a user namespace", error);
        if let Some(parent) = parent {
            parent.join()?;
            become_known(&parent.ids, owner)?;
        }
        let ((mut told, mut tell), (mut told_back, mut tell_back)) =
            (std::io::pipe().map_err(failed)?, std::io::pipe().map_err(failed)?);
        let own = std::process::id().cast_signed();
        let Some(writer) = spawn::fork(0, None)? else {
            // The ids are written by a process that is where the namespace is made.
            drop((told, tell_back));
            let written = handshake(&mut tell, &mut told_back).and_then(|()| write_maps(own, &written));
            let written = written.and_then(|()| tell.write_all(&[1]).map_err(failed));
            spawn::exit_now(i32::from(written.is_err()));
        };
        drop((tell, told_back));
        if parent.is_none() && owner != 0 {
            nix::unistd::seteuid(Uid::from_raw(owner))
                .map_err(|errno| SysError::new("seteuid", format!("user {owner}"), errno))?;
        }
        namespace::unshare(&[Namespace::User])?;
        nix::sys::prctl::set_dumpable(true)
            .map_err(|errno| SysError::new("prctl(PR_SET_DUMPABLE)", "a user namespace", errno))?;
        // It waits until that process is there, tells it to write, and waits until it has.
        handshake(&mut tell_back, &mut told)?;
        let written = told.read_exact(&mut [0]);
        namespace::wait_for(writer)?;
        written.map_err(|error| SysError::new("write", "the ids of a user namespace", error))
    };
    Ok(Users { open: open_made(Namespace::User, middle)?, ids: ids.clone(), members: members.to_vec() })
}

/// In a user namespace with these ids: becomes user `owner` of the job's root's, or whoever is known here. Who is not makes none within.
fn become_known(ids: &UserNamespaceV1, owner: u32) -> SysResult<()> {
    let failed = |call| move |errno| SysError::new(call, "a user namespace", errno);
    let is_its =
        |&&(_, outer, count): &&(u32, u32, u32)| owner.checked_sub(outer).is_some_and(|at| at < count);
    if let Some((group, ..)) = ids.gid_map.first() {
        let group = nix::unistd::Gid::from_raw(*group);
        nix::unistd::setresgid(group, group, group).map_err(failed("setresgid"))?;
    }
    let own = ids.uid_map.iter().find(is_its).map(|(inner, outer, _)| inner + (owner - outer));
    if let Some(user) = own.or(ids.uid_map.first().map(|(inner, ..)| *inner)) {
        let user = Uid::from_raw(user);
        nix::unistd::setresuid(user, user, user).map_err(failed("setresuid"))?;
    }
    Ok(())
}

/// Makes a namespace of another kind that belongs to `owner`, a copy of `base` if there is one.
pub(super) fn make_owned(
    owner: &Users,
    namespace: Namespace,
    base: Option<&Place>,
    contents: &NamespaceContentsV1,
) -> RestoreResult<File> {
    open_made(namespace, || {
        if let Some(base) = base {
            namespace::join(base.open.as_fd(), &[namespace])?;
        }
        if let NamespaceContentsV1::Mount { mounts, .. } = contents {
            // Afterwards nothing can be taken away any more.
            namespace::unshare(&[namespace])?;
            mount::leave_out(mounts)?;
        }
        owner.join()?;
        namespace::unshare(&[namespace])
    })
}

/// A descriptor of the namespace that a process of ours is in after `middle`.
pub(super) fn open_made(namespace: Namespace, middle: impl FnOnce() -> SysResult<()>) -> RestoreResult<File> {
    let Some(child) = namespace::fork_through(None, middle, |_| Ok(()))? else {
        spawn::wait_to_be_seized();
    };
    let opened = namespace::open_of(child, namespace);
    // It has nothing to tell.
    let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
    let _ = namespace::wait_for(child);
    Ok(opened?)
}

/// Ids of a namespace as its parent knows them that are outside.
fn within(ids: &UserNamespaceV1, parent: &UserNamespaceV1) -> RestoreResult<UserNamespaceV1> {
    let map = |map: &[(u32, u32, u32)], parents: &[(u32, u32, u32)]| {
        let one = |&(inner, outer, count): &(u32, u32, u32)| {
            let holds = |&&(_, start, len): &&(u32, u32, u32)| {
                outer >= start && u64::from(outer) + u64::from(count) <= u64::from(start) + u64::from(len)
            };
            let (first, start, _) = parents.iter().find(holds)?;
            Some((inner, first + (outer - start), count))
        };
        map.iter().map(one).collect::<Option<Vec<_>>>()
    };
    let missing =
        || RestoreError::Inconsistent { what: "a user namespace has ids that its parent has not".into() };
    Ok(UserNamespaceV1 {
        uid_map: map(&ids.uid_map, &parent.uid_map).ok_or_else(missing)?,
        gid_map: map(&ids.gid_map, &parent.gid_map).ok_or_else(missing)?,
        setgroups: ids.setgroups,
    })
}

impl Further {
    /// Moves a process with one thread to its user namespace, if that is not the root's. Its users and groups are set before: not all need be known there.
    pub(crate) fn join_users(&self, builder: &mut Builder<'_>, records: &Records) -> RestoreResult<()> {
        let pid = builder.remote.pid();
        let Some(users) = self.users.values().find(|users| users.members.contains(&pid)) else {
            return Ok(());
        };
        if let Some(thread) = records.threads(pid).first() {
            creds::restore_users(builder, &thread.creds)?;
        }
        enter(builder, Namespace::User, users.open.as_fd())
    }
}
