//! Which mounts tell each other of changes (shared subtrees). The groups have new numbers; who is in one with whom is as it was.
use crate::error::RestoreResult;
use ckpt_image::record::{MountNamespaceV1, MountV1};
use ckpt_sys::mount;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Mounts that are in groups, by the number that the group had.
#[derive(Debug, Default)]
pub(in crate::namespaces) struct Groups(BTreeMap<u64, Vec<OwnedFd>>);

impl Groups {
    /// Those of the mount namespace that this process is in, which is as the record says.
    pub(in crate::namespaces) fn of_own(record: &MountNamespaceV1) -> Self {
        let mut found = Self::default();
        for wanted in record.mounts.iter().filter(|mount| mount.peers != 0) {
            // One that is hidden under another leads nowhere: its peers are found elsewhere, or it has none that matter.
            if let Ok(open) = mount::open_path(Path::new(OsStr::from_bytes(&wanted.point))) {
                found.0.entry(wanted.peers).or_default().push(open);
            }
        }
        found
    }

    /// Gives mounts their peers and masters. Those that are copies of what is outside have their masters there.
    pub(super) fn restore(&mut self, mut mounts: Vec<(&MountV1, OwnedFd)>) -> RestoreResult<()> {
        while !mounts.is_empty() {
            let later = |master: u64| mounts.iter().any(|(other, _)| other.peers == master);
            let ready = |(wanted, _): &(&MountV1, OwnedFd)| {
                let knows = |group| self.0.contains_key(&group);
                knows(wanted.peers)
                    || knows(wanted.master)
                    || wanted.master == wanted.peers
                    || !later(wanted.master)
            };
            let next = mounts.iter().position(ready).unwrap_or(0);
            let (wanted, open) = mounts.remove(next);
            self.restore_one(wanted, open)?;
        }
        Ok(())
    }

    fn restore_one(&mut self, wanted: &MountV1, open: OwnedFd) -> RestoreResult<()> {
        let (peers, master) = (wanted.peers, wanted.master);
        if peers != 0 && self.join(peers, &open)? {
            return self.add(peers, open);
        }
        if master != 0 && self.join(master, &open)? {
            mount::set_propagation(open.as_fd(), libc::MS_SLAVE)?;
        } else if master == 0 {
            mount::set_propagation(open.as_fd(), libc::MS_PRIVATE)?;
        }
        if peers != 0 {
            mount::set_propagation(open.as_fd(), libc::MS_SHARED)?;
            self.add(peers, open)?;
        }
        Ok(())
    }

    fn add(&mut self, group: u64, open: OwnedFd) -> RestoreResult<()> {
        self.0.entry(group).or_default().push(open);
        Ok(())
    }

    /// Makes a mount a peer of a group's. False: there is no such group, or none of its mounts shows as much.
    fn join(&self, group: u64, open: &OwnedFd) -> RestoreResult<bool> {
        let Some(others) = self.0.get(&group) else { return Ok(false) };
        mount::set_propagation(open.as_fd(), libc::MS_PRIVATE)?;
        Ok(others.iter().any(|other| mount::share_group(other.as_fd(), open.as_fd()).is_ok()))
    }
}
