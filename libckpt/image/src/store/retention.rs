//! Which checkpoints of a job are kept, and when its chain is merged.
use super::fold::Depth;
use super::open::Store;
use crate::format::{Kind, Manifest, Role};
use crate::{CheckpointId, StoreError};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which checkpoints of a job are kept: those that one of the rules is for, and always the newest. Without a rule, all are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// As many of the newest.
    pub newest: Option<usize>,
    /// Those that were taken no longer ago.
    pub younger: Option<Duration>,
}

/// How much longer than one full checkpoint a chain may be, before its newest checkpoint is made a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainLimits {
    /// Checkpoints.
    pub length: usize,
    /// Bytes that its incremental checkpoints may have beyond those of the full one.
    pub bytes: u64,
    /// Time that a restore may need, by estimate, to find out where pages are: reading the page indexes, opening files.
    pub restore: Duration,
}

impl Default for ChainLimits {
    fn default() -> Self {
        Self { length: 16, bytes: 64 << 20, restore: Duration::from_millis(50) }
    }
}

/// Time to open a file and check what it begins and ends with.
const FILE: Duration = Duration::from_micros(200);
/// Time for a mebibyte of page indexes.
const INDEX_MIB: Duration = Duration::from_millis(10);

/// What was done for a job.
#[derive(Debug, Default)]
pub struct Maintained {
    /// The checkpoint that was made a full one.
    pub merged: Option<CheckpointId>,
    /// Checkpoints that were removed, oldest first.
    pub removed: Vec<CheckpointId>,
    /// How many checkpoints the newest one's chain has now.
    pub length: usize,
}

impl Retention {
    /// Those of `all` (oldest first) that are not kept, oldest first.
    fn old<'a>(&self, all: &'a [Manifest], now_ns: u64) -> Vec<&'a Manifest> {
        if *self == Self::default() {
            return Vec::new();
        }
        let age = |m: &Manifest| Duration::from_nanos(now_ns.saturating_sub(m.created_ns));
        let kept = |place: usize, m: &Manifest| {
            place == 0
                || self.newest.is_some_and(|newest| place < newest)
                || self.younger.is_some_and(|younger| age(m) <= younger)
        };
        all.iter().enumerate().filter(|(n, m)| !kept(all.len() - 1 - n, m)).map(|(_, m)| m).collect()
    }
}

impl ChainLimits {
    /// Whether a chain, the full checkpoint first, goes beyond them.
    fn are_exceeded_by(&self, chain: &[&Manifest]) -> bool {
        let [full, incrementals @ ..] = chain else { return false };
        let files = chain.iter().map(|m| m.files.len()).sum::<usize>();
        let indexes = chain.iter().flat_map(|m| m.file(Role::Pages)).map(|f| f.length).sum::<u64>();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mebibytes = u32::try_from(indexes >> 20).unwrap_or(u32::MAX);
        let restore = FILE.saturating_mul(count(files)).saturating_add(INDEX_MIB.saturating_mul(mebibytes));
        let bytes: u64 = incrementals.iter().map(|m| m.stats.bytes_written).sum();
        !incrementals.is_empty()
            && (chain.len() > self.length
                || bytes > full.bytes().saturating_add(self.bytes)
                || restore > self.restore)
    }
}

impl Store {
    /// Removes the checkpoints of a job that are not kept; gives their ids, oldest first. One on which another is being written at the moment
    /// stays.
    ///
    /// # Errors
    /// As [`Store::remove`]; what was removed until then stays removed.
    pub fn retain(&self, job: &str, retention: &Retention) -> Result<Vec<CheckpointId>, StoreError> {
        let all = self.checkpoints(Some(job))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let old = retention.old(&all, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        self.remove_all(job, &all, &old)
    }

    /// Removes all checkpoints of a job but the newest `keep`: see [`Store::retain`].
    ///
    /// # Errors
    /// As [`Store::retain`].
    pub fn prune(&self, job: &str, keep: usize) -> Result<Vec<CheckpointId>, StoreError> {
        let all = self.checkpoints(Some(job))?;
        let old: Vec<_> = all[..all.len().saturating_sub(keep)].iter().collect();
        self.remove_all(job, &all, &old)
    }

    /// Removes `old` ones of `all` checkpoints of a job.
    fn remove_all(
        &self,
        job: &str,
        all: &[Manifest],
        old: &[&Manifest],
    ) -> Result<Vec<CheckpointId>, StoreError> {
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let old: BTreeSet<&CheckpointId> = old.iter().map(|m| &m.id).collect();
        // One index for each that loses its parent, rather than one for each removal.
        let kept = all.iter().filter(|m| !old.contains(&m.id));
        for manifest in kept.filter(|m| m.parent.as_ref().is_some_and(|p| old.contains(p))) {
            self.fold(&manifest.id, Depth::Full)?;
        }
        let mut removed = Vec::new();
        for id in old.into_iter().rev() {
            match self.remove_only(id) {
                Ok(_) => removed.push(id.clone()),
                Err(StoreError::InUse { .. } | StoreError::NoCheckpoint { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        removed.reverse();
        self.tidy(job);
        Ok(removed)
    }

    /// Does for a job what is to be done in the background after a checkpoint: removes what is not kept, and makes the newest checkpoint a full one
    /// when its chain has become too long. May be killed at any moment; may go on while the next checkpoint is taken.
    ///
    /// # Errors
    /// As [`Store::retain`] and [`Store::merge`].
    pub fn maintain(
        &self,
        job: &str,
        retention: &Retention,
        limits: &ChainLimits,
    ) -> Result<Maintained, StoreError> {
        let removed = self.retain(job, retention)?;
        let all = self.checkpoints(Some(job))?;
        let Some(newest) = all.last() else { return Ok(Maintained { removed, ..Maintained::default() }) };
        let chain = chain(newest, &all);
        if !limits.are_exceeded_by(&chain) {
            return Ok(Maintained { merged: None, removed, length: chain.len() });
        }
        self.merge(&newest.id)?;
        Ok(Maintained { merged: Some(newest.id.clone()), removed, length: 1 })
    }
}

/// The chain of a checkpoint, the full one first.
fn chain<'a>(of: &'a Manifest, all: &'a [Manifest]) -> Vec<&'a Manifest> {
    let mut chain = vec![of];
    while let Some(last) = chain.last().filter(|m| m.kind == Kind::Incremental)
        && let Some(parent) = all.iter().find(|m| Some(&m.id) == last.parent.as_ref())
        && chain.len() <= all.len()
    {
        chain.push(parent);
    }
    chain.reverse();
    chain
}
