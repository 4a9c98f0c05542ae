//! Reading a pack.
use crate::StoreError;
use crate::format::{
    BLOCK_PAGES, BlockCodec, BlockEntry, FileRef, HASH_LEN, HEADER_LEN, Header, PackTable, PageHash, Role,
    StoreId, check_block, check_header, decode_trailer, trailer_len,
};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// An open pack whose header and block table are checked.
#[derive(Debug)]
pub(crate) struct PackReader {
    file: File,
    path: PathBuf,
    table: PackTable,
    digest: [u8; 32],
    length: u64,
    hashes: OnceLock<Vec<u8>>,
    first_pages: OnceLock<Vec<usize>>,
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
        let too_few = || StoreError::corrupt(&path, format!("{length} bytes are too few for a pack"));
        if length < HEADER_LEN as u64 {
            return Err(too_few());
        }
        let mut header = [0; HEADER_LEN];
        read_at(&file, &path, &mut header, 0)?;
        let Header { version, .. } = check_header(&header, &path, Role::Pack, Some(store), Some(name))?;
        let mut trailer = vec![0; trailer_len(version)];
        let at = length.checked_sub((HEADER_LEN + trailer.len()) as u64).ok_or_else(too_few)?;
        read_at(&file, &path, &mut trailer, at + HEADER_LEN as u64)?;
        let tail_len = decode_trailer(&trailer, length, &path)?;
        let mut tail = vec![0; tail_len];
        read_at(&file, &path, &mut tail, length - tail_len as u64)?;
        let (table, digest) = PackTable::decode(version, &header, &tail, length, &path)?;
        let (hashes, first_pages) = Default::default();
        Ok(Self { file, path, table, digest, length, hashes, first_pages })
    }

    /// The descriptor of its file.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its blocks.
    pub(crate) fn table(&self) -> &PackTable {
        &self.table
    }

    /// The hashes of its pages, in the order of blocks and pages; None: it has none. Kept once they have been read.
    pub(crate) fn hashes(&self) -> Result<Option<&[u8]>, StoreError> {
        if let Some(hashes) = self.hashes.get() {
            return Ok(Some(hashes));
        }
        let Some(digest) = self.table.hashes_digest else { return Ok(None) };
        let mut hashes = vec![0; usize::try_from(self.table.hashes_len()).unwrap_or(usize::MAX)];
        read_at(&self.file, &self.path, &mut hashes, self.table.end)?;
        if *blake3::hash(&hashes).as_bytes() != digest {
            return Err(StoreError::corrupt(&self.path, "hashes of pages: wrong checksum"));
        }
        Ok(Some(self.hashes.get_or_init(|| hashes)))
    }

    /// The hashes of a block's pages; none when the pack has none.
    pub(crate) fn block_hashes(&self, number: u64) -> Result<Vec<PageHash>, StoreError> {
        let (entry, _) = self.block(number)?;
        let Some(hashes) = self.hashes()? else { return Ok(Vec::new()) };
        let at = usize::try_from(number).ok().and_then(|n| self.first_pages().get(n)).copied();
        let (at, pages) = (at.unwrap_or_default(), usize::from(entry.pages));
        Ok(hashes.as_chunks().0[at..at + pages].to_vec())
    }

    /// The hash of the page in a slot, if it is known.
    pub(crate) fn page_hash(&self, slot: u64) -> Result<Option<PageHash>, StoreError> {
        let Some(hashes) = self.hashes()? else { return Ok(None) };
        let (block, index) = (slot / BLOCK_PAGES as u64, slot % BLOCK_PAGES as u64);
        let at = usize::try_from(block).ok().and_then(|n| self.first_pages().get(n)).copied();
        let at = at.zip(usize::try_from(index).ok()).map(|(at, index)| at + index);
        Ok(at.and_then(|at| hashes.as_chunks::<HASH_LEN>().0.get(at)).copied())
    }

    /// How many pages come before those of each block.
    fn first_pages(&self) -> &[usize] {
        self.first_pages.get_or_init(|| {
            let mut pages = 0;
            let before = |block: &BlockEntry| {
                pages += usize::from(block.pages);
                pages - usize::from(block.pages)
            };
            self.table.blocks.iter().map(before).collect()
        })
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
