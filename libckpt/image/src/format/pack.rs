//! Packs: blocks of compressed pages, then the pages' hashes, the table of blocks, and a trailer.
use super::header::{DIGEST_LEN, HEADER_LEN};
use super::{array, u16_at, u32_at, u64_at};
use crate::StoreError;
use crate::page::PAGE_SIZE;
use std::io;
use std::path::Path;

/// Most pages of a block.
pub(crate) const BLOCK_PAGES: usize = 64;
/// Most bytes of a block, stored or not.
pub(crate) const BLOCK_LEN: usize = BLOCK_PAGES * PAGE_SIZE;
/// First version of the format whose packs have hashes of pages.
const HASHES_SINCE: u16 = 2;
/// Bytes of a page's hash.
pub(crate) const HASH_LEN: usize = 16;

/// Tells pages apart: BLAKE3, keyed by the store, cut to its first bytes. Of a page that is stored as a delta, it is that of the page itself.
pub(crate) type PageHash = [u8; HASH_LEN];
/// The hash of a page that nobody knows the hash of.
pub(crate) const UNKNOWN_HASH: PageHash = [0; HASH_LEN];

/// Bytes of a trailer: count u32, reserved u32, pages u64, digest of the hashes if there are any, digest.
pub(crate) fn trailer_len(version: u16) -> usize {
    16 + DIGEST_LEN * if version < HASHES_SINCE { 1 } else { 2 }
}

/// What the hashes of a store's pages are keyed with.
pub(crate) fn hash_key(store: super::StoreId) -> [u8; 32] {
    blake3::derive_key("ckpt 2026-11-22 hashes of pages", &store.0)
}

/// The hash of a page.
pub(crate) fn hash_page(key: &[u8; 32], page: &[u8]) -> PageHash {
    array(blake3::keyed_hash(key, page).as_bytes(), 0)
}
const ENTRY_LEN: usize = 8 + DIGEST_LEN;

/// How a block's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockCodec {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
}

/// One block, as the table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    /// Stored bytes.
    pub(crate) stored: u32,
    /// Pages, 1 to [`BLOCK_PAGES`].
    pub(crate) pages: u16,
    pub(crate) codec: BlockCodec,
    /// BLAKE3 of the stored bytes.
    pub(crate) digest: [u8; DIGEST_LEN],
}

impl BlockEntry {
    /// Stored bytes.
    pub(crate) fn stored_len(&self) -> usize {
        usize::try_from(self.stored).unwrap_or(usize::MAX)
    }

    /// Bytes once decompressed.
    pub(crate) fn raw_len(&self) -> usize {
        usize::from(self.pages) * PAGE_SIZE
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut entry = [0; ENTRY_LEN];
        entry[0..4].copy_from_slice(&self.stored.to_le_bytes());
        entry[4..6].copy_from_slice(&self.pages.to_le_bytes());
        entry[6] = match self.codec {
            BlockCodec::Raw => 0,
            BlockCodec::Zstd => 1,
        };
        entry[8..].copy_from_slice(&self.digest);
        entry
    }

    pub(crate) fn decode(entry: &[u8]) -> Result<Self, &'static str> {
        if entry.len() < ENTRY_LEN {
            return Err("cut short");
        }
        let codec = match (entry[6], entry[7]) {
            (0, 0) => BlockCodec::Raw,
            (1, 0) => BlockCodec::Zstd,
            _ => return Err("unknown compression"),
        };
        let entry =
            Self { stored: u32_at(entry, 0), pages: u16_at(entry, 4), codec, digest: array(entry, 8) };
        let pages = usize::from(entry.pages);
        let fits = match codec {
            BlockCodec::Raw => entry.stored_len() == entry.raw_len(),
            BlockCodec::Zstd => entry.stored_len() < entry.raw_len(),
        };
        if pages == 0 || pages > BLOCK_PAGES || entry.stored == 0 || !fits {
            return Err("impossible length");
        }
        Ok(entry)
    }
}

/// Compresses a block into `out`; stores it raw when that is not larger.
pub(crate) fn compress_block(
    compressor: &mut zstd::bulk::Compressor<'_>,
    raw: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<BlockEntry> {
    out.clear();
    out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
    compressor.compress_to_buffer(raw, out)?;
    let codec = if out.len() < raw.len() {
        BlockCodec::Zstd
    } else {
        out.clear();
        out.extend_from_slice(raw);
        BlockCodec::Raw
    };
    let length = |n: usize| u32::try_from(n).map_err(|_| io::Error::other("block too large"));
    Ok(BlockEntry {
        stored: length(out.len())?,
        pages: u16::try_from(raw.len() / PAGE_SIZE).map_err(|_| io::Error::other("block too large"))?,
        codec,
        digest: *blake3::hash(out).as_bytes(),
    })
}

/// Checks a block's stored bytes.
pub(crate) fn check_block(entry: &BlockEntry, stored: &[u8]) -> Result<(), String> {
    if blake3::hash(stored) == entry.digest { Ok(()) } else { Err("wrong checksum".into()) }
}

/// The table of a pack's blocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackTable {
    /// The blocks in file order.
    pub(crate) blocks: Vec<BlockEntry>,
    /// Where each begins.
    pub(crate) offsets: Vec<u64>,
    /// Where the next would begin.
    pub(crate) end: u64,
    /// The hashes of all pages, of a pack that is being written.
    pub(crate) hashes: Vec<PageHash>,
    /// The digest of the hashes; None: the pack has none.
    pub(crate) hashes_digest: Option<[u8; DIGEST_LEN]>,
}

impl PackTable {
    pub(crate) fn new() -> Self {
        Self { end: HEADER_LEN as u64, ..Self::default() }
    }

    /// Adds a block of a pack that is being written; `hashes` are those of its pages.
    pub(crate) fn push_hashed(&mut self, entry: BlockEntry, hashes: &[PageHash]) {
        self.push(entry);
        self.hashes.extend((0..usize::from(entry.pages)).map(|n| hashes.get(n).unwrap_or(&UNKNOWN_HASH)));
    }

    fn push(&mut self, entry: BlockEntry) {
        self.blocks.push(entry);
        self.offsets.push(self.end);
        self.end += u64::from(entry.stored);
    }

    /// Pages of all blocks.
    pub(crate) fn pages(&self) -> u64 {
        self.blocks.iter().map(|b| u64::from(b.pages)).sum()
    }

    /// Bytes of the pack that has this table.
    pub(crate) fn file_len(&self) -> u64 {
        let version = if self.hashes_digest.is_some() { HASHES_SINCE } else { HASHES_SINCE - 1 };
        let trailer = trailer_len(version);
        self.end + self.hashes_len() + (self.blocks.len() * ENTRY_LEN + trailer) as u64
    }

    /// Bytes of the hashes, which begin where the blocks end.
    pub(crate) fn hashes_len(&self) -> u64 {
        if self.hashes_digest.is_some() { self.pages() * HASH_LEN as u64 } else { 0 }
    }

    /// Hashes, table and trailer; the digest that ends them covers the header too.
    pub(crate) fn encode(&mut self, header: &[u8; HEADER_LEN]) -> io::Result<(Vec<u8>, [u8; DIGEST_LEN])> {
        let count = u32::try_from(self.blocks.len()).map_err(|_| io::Error::other("too many blocks"))?;
        let mut out = self.hashes.concat();
        let hashes_digest = *blake3::hash(&out).as_bytes();
        self.hashes_digest = Some(hashes_digest);
        let table = out.len();
        for block in &self.blocks {
            out.extend_from_slice(&block.encode());
        }
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.pages().to_le_bytes());
        out.extend_from_slice(&hashes_digest);
        let digest = *blake3::Hasher::new().update(header).update(&out[table..]).finalize().as_bytes();
        out.extend_from_slice(&digest);
        Ok((out, digest))
    }

    /// Checks and decodes `tail`, which is the table and the trailer of a pack of `file_len` bytes.
    pub(crate) fn decode(
        version: u16,
        header: &[u8],
        tail: &[u8],
        file_len: u64,
        path: &Path,
    ) -> Result<(Self, [u8; DIGEST_LEN]), StoreError> {
        let bad = |reason: &str| StoreError::corrupt(path, format!("block table: {reason}"));
        let body = tail.len().checked_sub(DIGEST_LEN).ok_or_else(|| bad("cut short"))?;
        let digest = array(tail, body);
        if *blake3::Hasher::new().update(header).update(&tail[..body]).finalize().as_bytes() != digest {
            return Err(bad("wrong checksum"));
        }
        let mut table = Self::new();
        let entries = tail.len().checked_sub(trailer_len(version)).ok_or_else(|| bad("cut short"))?;
        let (entries, trailer) = tail.split_at(entries);
        for entry in entries.chunks(ENTRY_LEN) {
            table.push(BlockEntry::decode(entry).map_err(bad)?);
        }
        table.hashes_digest = (version >= HASHES_SINCE).then(|| array(trailer, 16));
        if table.pages() != u64_at(trailer, 8) || trailer[4..8] != [0; 4] || table.file_len() != file_len {
            return Err(bad("it does not fit the file"));
        }
        Ok((table, digest))
    }
}

/// From the trailer, which the digest has not been checked of yet: bytes of table and trailer, bounded by the file's length.
pub(crate) fn decode_trailer(trailer: &[u8], file_len: u64, path: &Path) -> Result<usize, StoreError> {
    let count = u64::from(u32_at(trailer, 0));
    let tail = count * ENTRY_LEN as u64 + trailer.len() as u64;
    match usize::try_from(tail) {
        Ok(len) if tail + HEADER_LEN as u64 <= file_len => Ok(len),
        _ => Err(StoreError::corrupt(path, "block table: longer than its file")),
    }
}
