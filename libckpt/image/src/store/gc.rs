//! What killed writers left behind.
use super::dir::{self, data_role};
use super::lock::StoreLock;
use super::open::Store;
use super::staging::remove_staging;
use crate::{CheckpointId, StoreError};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::PathBuf;

/// A directory in `tmp`.
pub(super) struct Work {
    pub(super) path: PathBuf,
    /// The checkpoint that is being written, or the id of another operation.
    pub(super) id: String,
    /// The parent of that checkpoint.
    pub(super) parent: Option<String>,
    pub(super) alive: bool,
}

impl Store {
    /// Removes what killed writers left behind. Writers do this by themselves when they begin.
    ///
    /// # Errors
    /// The store cannot be written; a manifest is damaged, so that nobody knows which files it needs.
    pub fn collect_garbage(&self) -> Result<(), StoreError> {
        let lock = self.lock_exclusive()?;
        self.collect(&lock)
    }

    /// As [`Store::collect_garbage`], but only if a killed writer's directory shows that there is something.
    pub(super) fn collect_if_needed(&self, lock: &StoreLock) -> Result<(), StoreError> {
        if self.work(lock)?.iter().all(|w| w.alive) {
            return Ok(());
        }
        self.collect(lock)
    }

    /// Removes unreferenced data files, then dead writers' directories: as long as one of those is there, there may be
    /// data files to look for.
    pub(super) fn collect(&self, lock: &StoreLock) -> Result<(), StoreError> {
        let (manifests, mut damaged) = self.scan()?;
        if let Some(error) = damaged.pop() {
            return Err(error);
        }
        let needed: BTreeSet<&str> =
            manifests.iter().flat_map(|m| &m.files).map(|f| f.name.as_str()).collect();
        for name in dir::names(&self.layout.data())? {
            if data_role(&name).is_some() && !needed.contains(name.as_str()) {
                dir::remove_file(&self.layout.data().join(name))?;
            }
        }
        for work in self.work(lock)? {
            if !work.alive {
                remove_staging(&work.path)?;
            }
        }
        Ok(())
    }

    /// What is in `tmp`.
    pub(super) fn work(&self, _lock: &StoreLock) -> Result<Vec<Work>, StoreError> {
        let mut found = Vec::new();
        for name in dir::names_if_any(&self.layout.tmp())? {
            let path = self.layout.tmp().join(&name);
            let alive = match File::open(&path).map(|d| d.try_lock()) {
                Ok(Ok(())) => false,
                Ok(Err(TryLockError::WouldBlock)) => true,
                Ok(Err(TryLockError::Error(e))) => return Err(StoreError::writing(&path, "lock")(e)),
                // Its writer has just taken it away.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(StoreError::writing(&path, "open")(e)),
            };
            if !path.is_dir() {
                continue;
            }
            let (id, parent) = match name.split_once('.') {
                Some((id, parent)) => (id.to_owned(), Some(parent.to_owned())),
                None => (name, None),
            };
            found.push(Work { path, id, parent, alive });
        }
        Ok(found)
    }

    /// An id later than any that the store has seen lately.
    pub(super) fn new_id(&self, _lock: &StoreLock) -> Result<CheckpointId, StoreError> {
        let mut newest: Option<CheckpointId> = None;
        for directory in [self.layout.manifests(), self.layout.data(), self.layout.tmp()] {
            for name in dir::names_if_any(&directory)? {
                let id = name.split('.').next().and_then(|n| n.parse().ok());
                newest = newest.max(id);
            }
        }
        Ok(CheckpointId::generate(newest.as_ref()))
    }
}
