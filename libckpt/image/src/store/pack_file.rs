//! Writing a pack.
use super::dir;
use super::large_writes::LargeWrites;
use crate::StoreError;
use crate::fault::step;
use crate::format::{BlockEntry, FileRef, HEADER_LEN, PackTable, PageHash, Role, StoreId, encode_header};
use std::path::{Path, PathBuf};

/// A pack that is being written.
#[derive(Debug)]
pub(super) struct PackFile {
    file: LargeWrites,
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
        let mut file = LargeWrites::new(dir::create_file(&path)?);
        step(operation, "pack.header", || file.add(&header, |write| write()))
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
        let operation = self.operation;
        self.file
            .add(stored, |write| step(operation, "pack.write", write))
            .map_err(StoreError::writing(&self.path, "write"))?;
        self.table.push_hashed(entry, hashes);
        Ok(self.table.blocks.len() as u64 - 1)
    }

    /// Ends the pack and makes it durable.
    pub(super) fn finish(mut self) -> Result<FileRef, StoreError> {
        let write = || StoreError::writing(&self.path, "write");
        let (tail, digest) = self.table.encode(&self.header).map_err(write())?;
        step(self.operation, "pack.write", || self.file.flush()).map_err(write())?;
        let table = || self.file.add(&tail, |write| write()).and_then(|()| self.file.flush());
        step(self.operation, "pack.table", table).map_err(write())?;
        step(self.operation, "pack.fsync", || self.file.file().sync_all())
            .map_err(StoreError::writing(&self.path, "sync"))?;
        Ok(FileRef { role: Role::Pack, name: self.name, length: self.table.file_len(), digest })
    }
}
