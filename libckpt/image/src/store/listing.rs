//! Which checkpoints a store has.
use super::dir::{self, manifest_id, manifest_name};
use super::open::Store;
use crate::format::{Manifest, decode_manifest};
use crate::{CheckpointId, StoreError};

/// Most bytes of a manifest's file: enough for a hundred thousand packs.
const MANIFEST_LIMIT: u64 = 16 << 20;

impl Store {
    /// The checkpoints of a job, or of all jobs, oldest first. A checkpoint whose manifest is damaged is left out with
    /// a warning in the log; [`Store::scan`] names it.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn checkpoints(&self, job: Option<&str>) -> Result<Vec<Manifest>, StoreError> {
        let (mut manifests, damaged) = self.scan()?;
        for error in damaged {
            tracing::warn!("{error}");
        }
        manifests.retain(|m| job.is_none_or(|j| m.job == j));
        Ok(manifests)
    }

    /// All checkpoints, oldest first, and an error for each manifest that cannot be used.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn scan(&self) -> Result<(Vec<Manifest>, Vec<StoreError>), StoreError> {
        let (mut manifests, mut damaged) = (Vec::new(), Vec::new());
        // Names are ids, which sort by time.
        for name in dir::names(&self.layout.manifests())? {
            let Some(id) = manifest_id(&name) else {
                damaged.push(StoreError::Stray { path: self.layout.manifests().join(name) });
                continue;
            };
            match self.read_manifest(&id) {
                Ok(manifest) => manifests.push(manifest),
                // Removed since the directory was read.
                Err(StoreError::Missing { .. }) => {}
                Err(e) => damaged.push(e),
            }
        }
        Ok((manifests, damaged))
    }

    /// The names of the jobs that have checkpoints, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn jobs(&self) -> Result<Vec<String>, StoreError> {
        let mut jobs: Vec<String> = self.checkpoints(None)?.into_iter().map(|m| m.job).collect();
        jobs.sort_unstable();
        jobs.dedup();
        Ok(jobs)
    }

    /// The newest checkpoint of a job, if it has one.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn latest(&self, job: &str) -> Result<Option<Manifest>, StoreError> {
        Ok(self.checkpoints(Some(job))?.pop())
    }

    /// The manifest of a checkpoint.
    ///
    /// # Errors
    /// [`StoreError::NoCheckpoint`]; the manifest is damaged or cannot be read.
    pub fn manifest(&self, id: &CheckpointId) -> Result<Manifest, StoreError> {
        self.read_manifest(id).map_err(|e| match e {
            StoreError::Missing { .. } => {
                StoreError::NoCheckpoint { id: id.clone(), store: self.layout.root.clone() }
            }
            e => e,
        })
    }

    /// As [`Store::manifest`], but a checkpoint that is not there is a missing file.
    pub(crate) fn read_manifest(&self, id: &CheckpointId) -> Result<Manifest, StoreError> {
        let path = self.layout.manifest(id);
        let file = dir::read_file(&path, MANIFEST_LIMIT)?;
        let manifest = decode_manifest(&file, &path, self.layout.id, &manifest_name(id))?;
        if manifest.id == *id {
            return Ok(manifest);
        }
        Err(StoreError::Swapped { path, found: manifest.id.to_string(), expected: id.to_string() })
    }
}
