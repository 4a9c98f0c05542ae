//! Writing a pack.
use super::dir;
use crate::StoreError;
use crate::fault::step;
use crate::format::{BlockEntry, FileRef, HEADER_LEN, PackTable, PageHash, Role, StoreId, encode_header};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A pack that is being written.
#[derive(Debug)]
pub(super) struct PackFile {
    file: File,
    path: PathBuf,
    name: String,
    header: [u8; HEADER_LEN],
    table: PackTable,
    operation: &'static str,
}

impl PackFile {
    /// Creates `name` in `directory`. `operation` is for [`crate::fault`].
    pub(super) fn create(
        directory: &Path,
        name: String,
        store: StoreId,
        operation: &'static str,
    ) -> Result<Self, StoreError> {
        let path = directory.join(&name);
        let header = encode_header(Role::Pack, store, &name);
        let mut file = dir::create_file(&path)?;
        step(operation, "pack.header", || file.write_all(&header))
            .map_err(StoreError::writing(&path, "write"))?;
        Ok(Self { file, path, name, header, table: PackTable::new(), operation })
    }

    /// Appends a block; gives its number. `hashes` are those of its pages, in their order; none are not known.
    pub(super) fn append(
        &mut self,
        entry: BlockEntry,
        stored: &[u8],
        hashes: &[PageHash],
    ) -> Result<u64, StoreError> {
        step(self.operation, "pack.write", || self.file.write_all(stored))
            .map_err(StoreError::writing(&self.path, "write"))?;
        self.table.push_hashed(entry, hashes);
        Ok(self.table.blocks.len() as u64 - 1)
    }

    /// Ends the pack and makes it durable.
    pub(super) fn finish(mut self) -> Result<FileRef, StoreError> {
        let write = || StoreError::writing(&self.path, "write");
        let (tail, digest) = self.table.encode(&self.header).map_err(write())?;
        step(self.operation, "pack.table", || self.file.write_all(&tail)).map_err(write())?;
        step(self.operation, "pack.fsync", || self.file.sync_all())
            .map_err(StoreError::writing(&self.path, "sync"))?;
        Ok(FileRef { role: Role::Pack, name: self.name, length: self.table.file_len(), digest })
    }
}
