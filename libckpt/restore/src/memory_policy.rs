//! NUMA memory policies. Those of mappings are there before their contents, which so come to lie where the program wants them; threads have theirs when all work for us
//! is done.
use crate::builder::Builder;
use crate::error::RestoreResult;
use crate::vma::describe;
use ckpt_image::Image;
use ckpt_image::record::{MemoryPolicyV1, MmV1, PolicyV1, VmaV1};
use ckpt_sys::numa;
use nix::errno::Errno;
use std::collections::BTreeMap;

/// The policies of a job.
#[derive(Debug, Default)]
pub(crate) struct MemoryPolicies {
    records: BTreeMap<i32, MemoryPolicyV1>,
    /// Of this machine.
    nodes: Vec<u32>,
}

impl MemoryPolicies {
    /// Those of an image.
    pub(crate) fn read(image: &Image) -> RestoreResult<Self> {
        let records: Vec<MemoryPolicyV1> = image.records()?;
        let nodes = if records.is_empty() { Vec::new() } else { numa::with_memory()? };
        Ok(Self { records: records.into_iter().map(|record| (record.pid, record)).collect(), nodes })
    }

    fn of<'p>(&'p self, mm: &MmV1, vma: &VmaV1) -> Option<&'p PolicyV1> {
        let record = self.records.get(&i32::try_from(mm.id.0).ok()?)?;
        let covers = |(start, end, _): &&(u64, u64, PolicyV1)| *start <= vma.start && vma.end <= *end;
        record.mappings.iter().find(covers).map(|(_, _, policy)| policy)
    }

    /// Those of the mappings of `mm`, which are there but for their contents, or are copies of those of `parent`.
    pub(crate) fn restore_mappings(
        &self,
        builder: &mut Builder<'_>,
        mm: &MmV1,
        parent: Option<&MmV1>,
        is_copied: impl Fn(&VmaV1) -> bool,
    ) -> RestoreResult<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        for vma in &mm.vmas {
            let within = |other: &&VmaV1| other.start <= vma.start && vma.end <= other.end;
            let inherited = parent
                .filter(|_| is_copied(vma))
                .and_then(|parent| Some((parent, parent.vmas.iter().find(within)?)))
                .and_then(|(parent, other)| self.of(parent, other));
            let wanted = self.of(mm, vma);
            if wanted == inherited {
                continue;
            }
            self.set(builder, wanted, &describe(vma), libc::SYS_mbind, &[vma.start, vma.end - vma.start])?;
        }
        Ok(())
    }

    /// That of the thread of `builder`.
    pub(crate) fn restore_thread(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        let (pid, tid) = (builder.remote.pid(), builder.remote.tid());
        let threads = self.records.get(&pid).map(|record| &record.threads[..]).unwrap_or_default();
        match threads.iter().find(|(thread, _)| *thread == tid) {
            Some((_, policy)) => {
                self.set(builder, Some(policy), &format!("thread {tid}"), libc::SYS_set_mempolicy, &[])
            }
            None => Ok(()),
        }
    }

    /// What names nodes that this machine has not comes back with the others, or as the default.
    fn set(
        &self,
        builder: &mut Builder<'_>,
        policy: Option<&PolicyV1>,
        object: &str,
        nr: i64,
        of: &[u64],
    ) -> RestoreResult<()> {
        let pid = builder.remote.pid();
        let (mut mode, mut nodes) = (numa::DEFAULT, Vec::new());
        if let Some(policy) = policy {
            let is_here = |node: &u32| policy.mode & numa::RELATIVE_NODES != 0 || self.nodes.contains(node);
            let missing: Vec<_> = policy.nodes.iter().filter(|node| !is_here(node)).collect();
            nodes = policy.nodes.iter().copied().filter(is_here).collect();
            mode = if nodes.is_empty() && !policy.nodes.is_empty() { numa::DEFAULT } else { policy.mode };
            if !missing.is_empty() {
                tracing::warn!(
                    pid,
                    ?missing,
                    "this machine lacks NUMA nodes of the memory policy of {object}"
                );
            }
        }
        let mask = if nodes.is_empty() { 0 } else { builder.place(&numa::mask(&nodes))?.get() };
        let args: Vec<u64> = match nr {
            libc::SYS_mbind => vec![of[0], of[1], u64::from(mode), mask, numa::NODES_MAX, 0],
            _ => vec![u64::from(mode), mask, numa::NODES_MAX],
        };
        match builder.remote.syscall(nr, &args)? {
            Ok(_) => Ok(()),
            // A kernel that has no such policy, or a control group that allows none of the nodes.
            Err(errno @ (Errno::EINVAL | Errno::ENOSYS | Errno::EPERM)) => {
                tracing::warn!(pid, %errno, ?policy, "the NUMA memory policy of {object} is not restored");
                Ok(())
            }
            Err(errno) => Err(crate::error::RestoreError::Remote {
                pid,
                call: if nr == libc::SYS_mbind { "mbind" } else { "set_mempolicy" },
                object: object.to_owned(),
                errno,
            }),
        }
    }
}
