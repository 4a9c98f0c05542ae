//! Time namespaces that processes of the job are in, but not its root, or that their children are born in.
use super::{Further, Place, alive};
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::NamespaceContentsV1;
use ckpt_sys::clocks::Offsets;
use ckpt_sys::kcmp::{self, Resource};
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::{SysResult, proc};
use nix::errno::Errno;
use std::cmp::Ordering;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Of the clocks of process `pid`'s children, if they are not its own: as [`Namespace::of`] has it.
fn of_children(pid: i32) -> SysResult<Option<PathBuf>> {
    match proc::read_link(pid, "ns/time_for_children") {
        // It ends, or the kernel has no such namespaces.
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(link) => Ok((Namespace::Time.of(pid)?.as_ref() != Some(&link)).then_some(link)),
    }
}

impl Further {
    /// Finds processes that have asked for new clocks for their children (unshare(2)).
    pub(super) fn find_clock_makers(&mut self, pids: &[i32]) -> CaptureResult<()> {
        for &pid in pids {
            let Some(link) = alive(pid, of_children(pid))?.flatten() else { continue };
            if let Some(place) = self.places.iter_mut().find(|place| place.link == link) {
                place.makers.push(pid);
                continue;
            }
            let Some(open) = alive(pid, namespace::open_for_children_of(pid, Namespace::Time))? else {
                continue;
            };
            let (namespace, members) = (Namespace::Time, Vec::new());
            self.places.push(Place { namespace, link, open, members, makers: vec![pid], contents: None });
        }
        Ok(())
    }

    /// How deep time namespace `at` is among those that processes ask for which are in such a namespace themselves.
    pub(super) fn clock_depth(&self, at: usize) -> usize {
        let next = |at: &usize| self.of(Namespace::Time, *self.places[*at].makers.first()?);
        std::iter::successors(Some(at), next).take(self.places.len()).count()
    }

    /// What is to be known of the time namespace `at` to make it again.
    pub(super) fn read_clocks(&self, at: usize) -> CaptureResult<NamespaceContentsV1> {
        let place = &self.places[at];
        if let [_, other, ..] = place.makers[..] {
            let reason =
                format!("the children of process {other} as well are born in it, and neither of the two is");
            return Err(place.refuse(&reason, "Let one of them end"));
        }
        let maker = place.makers.first().copied();
        // The kernel shows those of a process's children.
        let is_plain = |pid: &&i32| !self.places.iter().any(|other| other.makers.contains(pid));
        let shown_by = maker.or_else(|| place.members.iter().find(is_plain).copied());
        let theirs = match (shown_by, &place.contents) {
            (Some(pid), _) => Offsets::of_children(pid)?,
            (None, Some(contents)) => return Ok(contents.clone()),
            (None, None) => {
                Offsets::within(place.open.as_fd()).map_err(|error| place.refused(error.into()))?
            }
        };
        let [monotonic_ns, boottime_ns] = [0, 1].map(|clock| theirs.0[clock] - self.own_clocks.0[clock]);
        Ok(NamespaceContentsV1::Time { maker, monotonic_ns, boottime_ns })
    }

    /// Refuses what a restore could not move to time namespace `at`.
    pub(super) fn check_clocks(&self, at: usize) -> CaptureResult<()> {
        self.read_clocks(at)?;
        let place = &self.places[at];
        if place.makers.is_empty() {
            return Ok(());
        }
        for &member in &place.members {
            let shares = |pid: &&i32| {
                **pid != member && kcmp::compare(Resource::Memory, **pid, member).is_ok_and(Ordering::is_eq)
            };
            if let Some(other) = self.pids.iter().find(shares) {
                return Err(CaptureError::unsupported(
                    member,
                    format!("time namespace {}", place.link.display()),
                    format!(
                        "it shares its memory with process {other}, and its clocks are those that its ancestor {} has asked for",
                        place.makers[0]
                    ),
                    "Protect the first process that is in it by itself (ckpt attach)",
                ));
            }
        }
        Ok(())
    }
}
