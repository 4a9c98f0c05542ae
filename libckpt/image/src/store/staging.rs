//! A writer's temporary directory, and the commit out of it.
use super::dir::{self, Layout};
use crate::fault::step;
use crate::format::{FileRef, StoreId};
use crate::{CheckpointId, StoreError};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// `tmp/ID` or `tmp/ID.PARENT`, locked by flock(2) as long as its writer lives. Dropped, it takes away again
/// what is not committed.
#[derive(Debug)]
pub(super) struct Staging {
    layout: Layout,
    path: PathBuf,
    operation: &'static str,
    _lock: File,
    /// Files that are in place already but that no manifest needs unless this commits.
    published: Vec<PathBuf>,
    /// The manifest, once it is in place and if it replaced none.
    committed: Option<PathBuf>,
    leaves_garbage: bool,
    /// Names of data files of others that are kept.
    pinned: BTreeSet<String>,
    /// One of those is in place again, and no manifest may need it.
    put_back: bool,
}

impl Staging {
    /// Makes one. The caller holds the store's lock, else the directory might be taken for a dead writer's before it
    /// is locked.
    pub(super) fn create(
        layout: &Layout,
        id: &CheckpointId,
        parent: Option<&CheckpointId>,
        operation: &'static str,
    ) -> Result<Self, StoreError> {
        let name = parent.map_or_else(|| id.to_string(), |p| format!("{id}.{p}"));
        let path = layout.tmp().join(name);
        let like = fs::metadata(layout.data()).map_err(StoreError::writing(&layout.data(), "read"))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&like.permissions()) & 0o777;
        dir::create_dir(&layout.tmp(), mode)?;
        dir::create_dir(&path, mode)?;
        let lock = File::open(&path).map_err(StoreError::writing(&path, "open"))?;
        lock.lock().map_err(StoreError::writing(&path, "lock"))?;
        Ok(Self {
            layout: layout.clone(),
            path,
            operation,
            _lock: lock,
            published: Vec::new(),
            committed: None,
            leaves_garbage: false,
            pinned: BTreeSet::new(),
            put_back: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The store that it is of.
    pub(super) fn store(&self) -> StoreId {
        self.layout.id
    }

    /// Whether one of its files has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// For [`crate::fault`].
    pub(super) fn operation(&self) -> &'static str {
        self.operation
    }

    /// Writes a file and makes its bytes durable. `what` is for [`crate::fault`].
    pub(super) fn write(&self, what: &str, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let mut file = dir::create_file(&path)?;
        step(self.operation, &format!("{what}.write"), || file.write_all(bytes))
            .map_err(StoreError::writing(&path, "write"))?;
        step(self.operation, &format!("{what}.fsync"), || file.sync_all())
            .map_err(StoreError::writing(&path, "sync"))
    }

    /// Keeps a data file by a second link to it: should it be taken away meanwhile, [`Staging::publish_data`] puts it back. Gives that link.
    pub(super) fn pin(&mut self, file: &FileRef) -> Result<PathBuf, StoreError> {
        let (from, to) = (self.layout.data_file(file), self.path.join(&file.name));
        self.pinned.insert(file.name.clone());
        match fs::hard_link(&from, &to) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(to),
            linked => linked.map(|()| to).map_err(StoreError::reading(&from)),
        }
    }

    /// Moves data files into place and makes that durable. Nothing refers to them yet, but to those that were pinned and are still there.
    pub(super) fn publish_data(&mut self, names: &[String]) -> Result<(), StoreError> {
        let data = self.layout.data();
        for name in names {
            let to = data.join(name);
            if to.exists() {
                continue;
            }
            if self.pinned.contains(name) {
                // Another writer may have come to need it as well: it is not for this one to remove.
                self.put_back = true;
            } else {
                self.published.push(to.clone());
            }
            step(self.operation, "data.rename", || fs::rename(self.path.join(name), &to))
                .map_err(StoreError::writing(&to, "rename"))?;
        }
        if names.is_empty() {
            return Ok(());
        }
        step(self.operation, "data.fsync", || File::open(&data)?.sync_all())
            .map_err(StoreError::writing(&data, "sync"))
    }

    /// The commit: moves a new manifest into place and makes that durable.
    pub(super) fn publish_manifest(&mut self, name: &str) -> Result<(), StoreError> {
        let manifests = self.layout.manifests();
        let to = manifests.join(name);
        let replaces = to.exists();
        step(self.operation, "rename", || {
            fs::rename(self.path.join(name), &to)?;
            if replaces {
                // There is no way back: what the new manifest needs stays.
                self.published.clear();
                self.leaves_garbage = true;
            } else {
                self.committed = Some(to.clone());
            }
            Ok(())
        })
        .and_then(|()| step(self.operation, "fsync", || File::open(&manifests)?.sync_all()))
        .map_err(StoreError::writing(&to, "rename"))
    }

    /// Whether its directory stays behind, as a dead writer's, so that the next writer looks for files that nobody needs.
    pub(super) fn leave_garbage(&mut self, leave: bool) {
        self.leaves_garbage = leave;
    }

    /// What was published stays.
    pub(super) fn keep(&mut self) {
        self.published.clear();
        self.committed = None;
        self.put_back = false;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The manifest goes first, and for good, before what it needs.
        let uncommitted = self.committed.take().map_or(Ok(()), |manifest| {
            dir::remove_file(&manifest)?;
            dir::sync_dir(&self.layout.manifests())
        });
        let removed = uncommitted.and_then(|()| self.published.iter().try_for_each(|p| dir::remove_file(p)));
        let removed = removed.and_then(|()| {
            if self.leaves_garbage || self.put_back { Ok(()) } else { remove_staging(&self.path) }
        });
        if let Err(e) = removed {
            tracing::warn!("{e}");
        }
    }
}

/// Removes a writer's directory with its files.
pub(super) fn remove_staging(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(StoreError::writing(path, "remove")),
    }
}
