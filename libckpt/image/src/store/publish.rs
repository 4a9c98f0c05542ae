//! From a writer's directory into the store.
use super::dir::{data_name, manifest_name};
use super::lock::StoreLock;
use super::open::Store;
use super::staging::Staging;
use crate::format::{FileRef, Manifest, PagesFile, Role, encode_manifest, encode_pages, seal, wrap};
use crate::{CheckpointId, StoreError};

impl Staging {
    /// Writes records and page index under names of `operation`, and lists them and the packs in the manifest.
    pub(super) fn write_data(
        &self,
        manifest: &mut Manifest,
        operation: &CheckpointId,
        records: &[u8],
        index: &PagesFile,
        packs: impl IntoIterator<Item = FileRef>,
    ) -> Result<(), StoreError> {
        let name = data_name(operation, Role::Records);
        let file = seal(Role::Records, self.store(), &name, &wrap(records));
        self.write("records", &name, &file)?;
        let records = file_ref(Role::Records, name, &file);
        let pages = self.write_pages(operation, index)?;
        manifest.files = [records, pages].into_iter().chain(packs).collect();
        Ok(())
    }

    /// Writes a page index under a name of `operation`.
    pub(super) fn write_pages(
        &self,
        operation: &CheckpointId,
        index: &PagesFile,
    ) -> Result<FileRef, StoreError> {
        let name = data_name(operation, Role::Pages);
        let file = encode_pages(index, self.store(), &name);
        self.write("pages", &name, &file)?;
        Ok(file_ref(Role::Pages, name, &file))
    }

    /// Writes a manifest.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let name = manifest_name(&manifest.id);
        self.write("manifest", &name, &encode_manifest(manifest, self.store(), &name)?)
    }

    /// Commits: puts in place the data files that are here, then the manifest, then takes the directory away.
    pub(super) fn publish(&mut self, _lock: &StoreLock, manifest: &Manifest) -> Result<(), StoreError> {
        let names: Vec<String> =
            manifest.files.iter().map(|f| f.name.clone()).filter(|n| self.has(n)).collect();
        self.publish_data(&names)?;
        self.publish_manifest(&manifest_name(&manifest.id))?;
        self.keep();
        Ok(())
    }
}

impl Store {
    /// A new id and a directory for an operation that goes by it.
    pub(super) fn stage(&self, operation: &'static str) -> Result<(CheckpointId, Staging), StoreError> {
        let lock = self.lock_exclusive()?;
        let id = self.new_id(&lock)?;
        let staging = Staging::create(&self.layout, &id, None, operation)?;
        Ok((id, staging))
    }

    /// Puts `new`, whose files are in `staging` or in place, instead of `old`, and removes files that nobody needs any
    /// more. False, and nothing done, when someone else changed the checkpoint or removed one of the files meanwhile.
    pub(super) fn replace(
        &self,
        lock: &StoreLock,
        staging: &mut Staging,
        old: &Manifest,
        new: &Manifest,
    ) -> Result<bool, StoreError> {
        let in_place = |f: &FileRef| staging.has(&f.name) || self.layout.data_file(f).exists();
        if self.manifest(&old.id)? != *old || !new.files.iter().all(in_place) {
            return Ok(false);
        }
        staging.publish(lock, new)?;
        Ok(true)
    }

    /// Removes files that nobody needs any more after an operation. If that is not possible now, a later writer will.
    pub(super) fn sweep(&self, lock: &StoreLock, staging: &mut Staging) {
        let collected = self.collect(lock);
        staging.leave_garbage(collected.is_err());
        if let Err(e) = collected {
            tracing::warn!("files that nobody needs stay for now: {e}");
        }
    }
}

/// The reference to a file made by [`seal`].
fn file_ref(role: Role, name: String, file: &[u8]) -> FileRef {
    let mut digest = [0; 32];
    digest.copy_from_slice(&file[file.len() - 32..]);
    FileRef { role, name, length: file.len() as u64, digest }
}
