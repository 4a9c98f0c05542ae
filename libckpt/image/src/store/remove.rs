//! Removing checkpoints.
use super::dir;
use super::fold::Depth;
use super::open::Store;
use crate::{CheckpointId, StoreError};

impl Store {
    /// Removes a checkpoint. Those that have it as their parent take over what they need of it first.
    ///
    /// A checkpoint whose manifest is damaged can be removed when no other one needs it.
    ///
    /// # Errors
    /// [`StoreError::NoCheckpoint`]; [`StoreError::InUse`]; a file that the children need is damaged; the store cannot be
    /// written. After an error the checkpoint is still there.
    pub fn remove(&self, id: &CheckpointId) -> Result<(), StoreError> {
        if let Some(job) = self.remove_only(id)? {
            self.tidy(&job);
        }
        Ok(())
    }

    /// Removes without compacting; gives the job if it is known.
    pub(super) fn remove_only(&self, id: &CheckpointId) -> Result<Option<String>, StoreError> {
        let manifest = match self.manifest(id) {
            Ok(manifest) => Ok(manifest),
            Err(e) if e.is_damage() => Err(e),
            Err(e) => return Err(e),
        };
        loop {
            for child in self.checkpoints(None)?.iter().filter(|m| m.parent.as_ref() == Some(id)) {
                match self.fold(&child.id, Depth::Parent) {
                    Err(StoreError::NoCheckpoint { .. }) => {}
                    folded => folded?,
                }
            }
            let (_, mut staging) = self.stage("remove")?;
            let lock = self.lock_exclusive()?;
            if self.checkpoints(None)?.iter().any(|m| m.parent.as_ref() == Some(id)) {
                continue;
            }
            if let Some(work) =
                self.work(&lock)?.into_iter().find(|w| w.alive && w.parent.as_deref() == Some(id.as_str()))
            {
                return Err(StoreError::InUse { id: id.clone(), writer: work.id });
            }
            let path = self.layout.manifest(id);
            let manifests = self.layout.manifests();
            staging.leave_garbage(true);
            crate::fault::step("remove", "unlink", || std::fs::remove_file(&path))
                .map_err(StoreError::writing(&path, "remove"))?;
            crate::fault::step("remove", "fsync", || std::fs::File::open(&manifests)?.sync_all())
                .map_err(StoreError::writing(&manifests, "sync"))?;
            self.sweep(&lock, &mut staging);
            dir::sync_dir(&self.layout.data())?;
            return Ok(manifest.ok().map(|m| m.job));
        }
    }
}
