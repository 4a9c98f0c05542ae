//! User namespaces that processes of the job are in, but not its root.
use super::{Further, alive};
use crate::error::{CaptureError, CaptureResult};
use crate::namespaces::user_namespace;
use crate::sharing::Owners;
use ckpt_image::record::NamespaceContentsV1;
use ckpt_sys::kcmp::{self, Resource};
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::proc::{status::Status, threads};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

impl Further {
    /// What is to be known of the user namespace `at` to make it again.
    pub(super) fn read_users(&self, at: usize) -> CaptureResult<NamespaceContentsV1> {
        let place = &self.places[at];
        let chain = self.chain(at)?;
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let is_its = |at: &usize| {
            let other = &self.places[*at];
            other.namespace != Namespace::User
                && namespace::owner(other.open.as_fd()).is_ok_and(|owner| owner == place.link)
        };
        Ok(NamespaceContentsV1::User {
            parent: chain.get(1).map(|parent| number(*parent)),
            owner: namespace::owner_uid(place.open.as_fd())?,
            ids: user_namespace(place.members[0])?,
            owns: (0..self.places.len()).filter(is_its).map(number).collect(),
        })
    }

    /// Refuses what a restore could not do to a process in user namespace `at`.
    pub(super) fn check_users(&self, at: usize) -> CaptureResult<()> {
        self.read_users(at)?;
        let mut directories = Owners::new(Resource::Fs);
        let mut owners: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for &pid in &self.pids {
            if let Some(owner) = of_living(pid, directories.of(pid))? {
                owners.entry(owner).or_default().push(pid);
            }
        }
        for &pid in &self.places[at].members {
            let shares = owners.values().find(|sharing| sharing.len() > 1 && sharing.contains(&pid));
            if let Some(other) = shares.and_then(|sharing| sharing.iter().find(|other| **other != pid)) {
                return Err(CaptureError::unsupported(
                    pid,
                    "its working directory",
                    format!(
                        "it shares that with process {other} (clone), and is in a user namespace that the job's root is not in"
                    ),
                    format!("Save when process {pid} or {other} has ended"),
                ));
            }
            let Some(tids) = alive(pid, threads::list(pid))? else { continue };
            let ids = |tid: i32| -> CaptureResult<Option<[Vec<u64>; 3]>> {
                let status = alive(pid, Status::of(pid, tid))?;
                Ok(status.map(|status| ["Uid", "Gid", "Groups"].map(|name| status.numbers(name))))
            };
            let leader = ids(pid)?;
            for tid in tids {
                let apart = |resource| kcmp::compare(resource, pid, tid).is_ok_and(Ordering::is_ne);
                if tid != pid && (apart(Resource::Files) || apart(Resource::Fs)) {
                    return Err(CaptureError::unsupported(
                        pid,
                        format!("thread {tid} with a descriptor table or directories of its own (unshare)"),
                        "its process is in a user namespace that the job's root is not in",
                        "Save when that thread has ended",
                    ));
                }
                let own = ids(tid)?;
                if own.is_some() && leader.is_some() && own != leader {
                    return Err(CaptureError::unsupported(
                        pid,
                        format!("user ids of thread {tid}"),
                        "they are not those of its process, which is in a user namespace that the job's root is not in",
                        "Protect the first process that is in it by itself (ckpt attach)",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// As [`alive`], of what this crate finds out.
fn of_living<T>(pid: i32, outcome: CaptureResult<T>) -> CaptureResult<Option<T>> {
    match outcome.map_err(|error| error.or_exited(pid)) {
        Ok(value) => Ok(Some(value)),
        Err(CaptureError::Exited { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
