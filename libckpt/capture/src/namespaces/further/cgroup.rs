//! Cgroup namespaces that processes of the job are in, but not its root.
use super::Further;
use crate::cgroups::{Groups, namespace_root};
use crate::error::CaptureResult;
use ckpt_image::record::NamespaceContentsV1;
use ckpt_sys::SysResult;
use ckpt_sys::cgroup::{self, Membership};
use ckpt_sys::namespace::{self, Namespace};
use std::collections::BTreeMap;
use std::os::fd::AsFd;

impl Further {
    /// Finds where those begin of which it is not known yet.
    pub(super) fn read_cgroups(&mut self, groups: &Groups<'_>) -> CaptureResult<()> {
        for at in 0..self.places.len() {
            let place = &self.places[at];
            if place.namespace == Namespace::Cgroup && place.contents.is_none() {
                self.places[at].contents = Some(self.cgroup_roots(at, groups)?);
            }
        }
        Ok(())
    }

    /// What is seen of a process's groups here and there tells where it begins, if the process is below.
    fn cgroup_roots(&self, at: usize, groups: &Groups<'_>) -> CaptureResult<NamespaceContentsV1> {
        let place = &self.places[at];
        let mut roots = BTreeMap::new();
        let mut unknown = BTreeMap::new();
        for &pid in place.members.iter().chain(&self.pids) {
            let Some((outer, inner)) = self.memberships(at, pid)? else { continue };
            for (outer, inner) in outer.iter().zip(inner) {
                match namespace_root(&groups.outer(outer), &inner.path) {
                    Some(root) => drop(roots.insert(inner.hierarchy, root)),
                    None => drop(unknown.insert(inner.hierarchy, inner.path)),
                }
            }
            if unknown.keys().all(|hierarchy| roots.contains_key(hierarchy)) {
                break;
            }
        }
        for hierarchy in unknown.keys().filter(|hierarchy| !roots.contains_key(*hierarchy)) {
            tracing::warn!(
                hierarchy,
                "the root of cgroup namespace {} is not known: it will begin at the restoring command's group",
                place.link.display()
            );
        }
        Ok(NamespaceContentsV1::Cgroup(roots.into_iter().collect()))
    }

    /// The groups of a process as they are seen here, and in cgroup namespace `at`. None: it has ended, or is being moved.
    fn memberships(&self, at: usize, pid: i32) -> CaptureResult<Option<(Vec<Membership>, Vec<Membership>)>> {
        let place = &self.places[at];
        let look = || -> SysResult<Option<_>> {
            let outer = cgroup::of(pid, pid)?;
            let inner =
                namespace::within(Namespace::Cgroup, Some(place.open.as_fd()), || cgroup::of(pid, pid))?;
            let same = |(one, other): (&Membership, &Membership)| one.hierarchy == other.hierarchy;
            let is_fit = outer.len() == inner.len() && outer.iter().zip(&inner).all(same);
            Ok((is_fit && cgroup::of(pid, pid)? == outer).then_some((outer, inner)))
        };
        match look() {
            Err(error) if error.is_gone() => Ok(None),
            found => found.map_err(|error| place.refused(error.into())),
        }
    }
}
