//! Turns among writers.
use super::open::{Store, read_format};
use crate::StoreError;
use std::fs::{File, OpenOptions};

/// flock(2) on the format file, until dropped.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

impl Store {
    /// For what must not see a commit half done: removing files, choosing ids, replacing manifests.
    pub(super) fn lock_exclusive(&self) -> Result<StoreLock, StoreError> {
        self.lock(File::lock)
    }

    /// For a commit.
    pub(super) fn lock_shared(&self) -> Result<StoreLock, StoreError> {
        self.lock(File::lock_shared)
    }

    fn lock(&self, lock: impl FnOnce(&File) -> std::io::Result<()>) -> Result<StoreLock, StoreError> {
        let path = self.layout.format();
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(StoreError::writing(&path, "open"))?;
        lock(&file).map_err(StoreError::writing(&path, "lock"))?;
        read_format(&path, Some(self.layout.id))?;
        Ok(StoreLock { _file: file })
    }
}
