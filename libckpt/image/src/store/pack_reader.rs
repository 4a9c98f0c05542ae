//! Reading a pack.
use crate::StoreError;
use crate::format::{
    BlockCodec, BlockEntry, FileRef, HEADER_LEN, PackTable, Role, StoreId, TRAILER_LEN, check_block,
    check_header, decode_trailer,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// An open pack whose header and block table are checked.
#[derive(Debug)]
pub(crate) struct PackReader {
    file: File,
    path: PathBuf,
    table: PackTable,
    digest: [u8; 32],
    length: u64,
}

/// Buffers and state for reading blocks; one a thread.
pub(crate) struct BlockReader {
    stored: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl PackReader {
    /// Opens the pack that a manifest names.
    pub(crate) fn open(path: PathBuf, expected: &FileRef, store: StoreId) -> Result<Self, StoreError> {
        let pack = Self::open_any(path, store, &expected.name)?;
        if pack.length != expected.length || pack.digest != expected.digest {
            return Err(StoreError::corrupt(&pack.path, "it is not the pack that the manifest lists"));
        }
        Ok(pack)
    }

    /// Opens a pack of the store that has this name.
    pub(crate) fn open_any(path: PathBuf, store: StoreId, name: &str) -> Result<Self, StoreError> {
        let file = File::open(&path).map_err(StoreError::reading(&path))?;
        let length = file.metadata().map_err(StoreError::reading(&path))?.len();
        if length < (HEADER_LEN + TRAILER_LEN) as u64 {
            return Err(StoreError::corrupt(&path, format!("{length} bytes are too few for a pack")));
        }
        let mut header = [0; HEADER_LEN];
        read_at(&file, &path, &mut header, 0)?;
        check_header(&header, &path, Role::Pack, Some(store), Some(name))?;
        let mut trailer = [0; TRAILER_LEN];
        read_at(&file, &path, &mut trailer, length - TRAILER_LEN as u64)?;
        let tail_len = decode_trailer(&trailer, length, &path)?;
        let mut tail = vec![0; tail_len];
        read_at(&file, &path, &mut tail, length - tail_len as u64)?;
        let (table, digest) = PackTable::decode(&header, &tail, length, &path)?;
        Ok(Self { file, path, table, digest, length })
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its blocks.
    pub(crate) fn table(&self) -> &PackTable {
        &self.table
    }

    /// A block as the table has it; refuses numbers beyond the table, which only a wrong index has.
    pub(crate) fn block(&self, number: u64) -> Result<(BlockEntry, u64), StoreError> {
        let at = usize::try_from(number).ok().filter(|n| *n < self.table.blocks.len());
        let at = at.ok_or_else(|| StoreError::corrupt(&self.path, format!("it has no block {number}")))?;
        Ok((self.table.blocks[at], self.table.offsets[at]))
    }
}

impl BlockReader {
    pub(crate) fn new() -> Result<Self, StoreError> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(StoreError::reading(Path::new("zstd")))?;
        Ok(Self { stored: Vec::new(), decompressor })
    }

    /// A block's stored bytes, checked.
    pub(crate) fn stored(
        &mut self,
        pack: &PackReader,
        number: u64,
    ) -> Result<(BlockEntry, &[u8]), StoreError> {
        let (entry, offset) = pack.block(number)?;
        read_block(pack, number, &entry, offset, &mut self.stored)?;
        Ok((entry, &self.stored))
    }

    /// A block's pages, checked and then decompressed, in `raw`.
    pub(crate) fn raw(
        &mut self,
        pack: &PackReader,
        number: u64,
        raw: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let (entry, offset) = pack.block(number)?;
        raw.clear();
        if entry.codec == BlockCodec::Raw {
            return read_block(pack, number, &entry, offset, raw);
        }
        read_block(pack, number, &entry, offset, &mut self.stored)?;
        raw.reserve_exact(entry.raw_len());
        let length = self.decompressor.decompress_to_buffer(&self.stored, raw);
        match length {
            Ok(n) if n == entry.raw_len() => Ok(()),
            _ => Err(StoreError::corrupt(&pack.path, format!("block {number} cannot be decompressed"))),
        }
    }
}

fn read_block(
    pack: &PackReader,
    number: u64,
    entry: &BlockEntry,
    offset: u64,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    out.resize(entry.stored_len(), 0);
    read_at(&pack.file, &pack.path, out, offset)?;
    check_block(entry, out)
        .map_err(|reason| StoreError::corrupt(&pack.path, format!("block {number}: {reason}")))
}

fn read_at(file: &File, path: &Path, out: &mut [u8], offset: u64) -> Result<(), StoreError> {
    file.read_exact_at(out, offset).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => StoreError::corrupt(path, "cut short"),
        _ => StoreError::reading(path)(e),
    })
}
