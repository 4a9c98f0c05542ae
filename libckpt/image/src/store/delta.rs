//! Pages of which little has changed, as what is different from their parent's.
use super::known_pages::Packs;
use crate::StoreError;
use crate::format::{BLOCK_LEN, BLOCK_PAGES};
use crate::image::BlockCache;
use crate::page::PAGE_SIZE;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The parent's blocks that a thread keeps: dirty pages come in the order of their addresses, as they came for the parent.
const BLOCKS_KEPT: usize = 8;
/// Bytes that a delta has to spare, for its longer entry in the page index.
const ENTRY: usize = 24;
/// Bytes of the parent that are read before it is asked what for.
const TRIAL: u64 = 8 << 20;
/// At least one byte has to be saved for so many that are read.
const WORTH: u64 = 256;

/// A page of the parent: number of its pack there, slot.
pub(super) type Base = (u32, u64);

/// What became of a page that has a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derived {
    /// Its slot holds what is to be applied to the base.
    Delta(Base),
    /// It is the base; nobody needs its slot.
    Same(Base),
}

/// What the threads that look for deltas have in common.
#[derive(Debug)]
pub(super) struct Bases {
    packs: Packs,
    /// Most bytes of the parent that are read.
    limit: u64,
    read: AtomicU64,
    saved: AtomicU64,
}

impl Bases {
    pub(super) fn new(packs: Packs, limit: u64) -> Arc<Self> {
        Arc::new(Self { packs, limit, read: AtomicU64::new(0), saved: AtomicU64::new(0) })
    }

    /// Whether another block of the parent may be read.
    fn may_read(&self) -> bool {
        let read = self.read.fetch_add(BLOCK_LEN as u64, Ordering::Relaxed) + BLOCK_LEN as u64;
        read <= self.limit && (read <= TRIAL || self.saved.load(Ordering::Relaxed) >= read / WORTH)
    }
}

/// Turns pages into deltas; one a thread.
pub(super) struct DeltaCoder {
    bases: Arc<Bases>,
    cache: BlockCache,
    compressor: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
    difference: Vec<u8>,
    at: Option<(u32, u64)>,
}

impl DeltaCoder {
    pub(super) fn new(bases: Arc<Bases>) -> Result<Self, StoreError> {
        let compressor = zstd::bulk::Compressor::new(1)
            .map_err(StoreError::writing(std::path::Path::new("pack"), "compress"))?;
        Ok(Self {
            bases,
            cache: BlockCache::new(BLOCKS_KEPT)?,
            compressor,
            compressed: Vec::with_capacity(zstd::zstd_safe::compress_bound(PAGE_SIZE)),
            difference: Vec::with_capacity(PAGE_SIZE),
            at: None,
        })
    }

    /// Replaces pages of the block by what is different from their bases, where that is smaller. Gives the pages that are no longer whole by
    /// their index in the block.
    pub(super) fn encode(&mut self, block: &mut [u8], bases: &[Option<Base>]) -> Vec<(usize, Derived)> {
        let mut order: Vec<_> =
            bases.iter().enumerate().filter_map(|(n, base)| Some((base.as_ref()?, n))).collect();
        order.sort_unstable();
        let mut derived = Vec::new();
        for (&base, index) in order {
            let page = &mut block[index * PAGE_SIZE..][..PAGE_SIZE];
            match self.difference(page, base) {
                Some(0) => derived.push((index, Derived::Same(base))),
                Some(_) if self.is_smaller(page) => derived.push((index, Derived::Delta(base))),
                _ => continue,
            }
            page.copy_from_slice(&self.difference);
        }
        derived
    }

    /// Computes what is different; gives the number of bytes that are. None: the base is not to be had.
    fn difference(&mut self, page: &[u8], (pack, slot): Base) -> Option<usize> {
        let (block, index) = (slot / BLOCK_PAGES as u64, slot % BLOCK_PAGES as u64);
        let reader = self.bases.packs.get(usize::try_from(pack).ok()?)?.as_ref()?;
        if self.at != Some((pack, block)) {
            if !self.bases.may_read() {
                return None;
            }
            self.at = Some((pack, block));
        }
        // Damage costs no more than the page's being stored whole; who reads the pack will tell of it.
        let base = self.cache.get(pack, reader, block).ok()?;
        let base = base.chunks_exact(PAGE_SIZE).nth(usize::try_from(index).ok()?)?;
        self.difference.clear();
        self.difference.extend(page.iter().zip(base).map(|(new, old)| new ^ old));
        Some(self.difference.iter().filter(|byte| **byte != 0).count())
    }

    /// Whether the difference compresses better than the page.
    fn is_smaller(&mut self, page: &[u8]) -> bool {
        let (Some(whole), Some(delta)) = (self.size(page), self.size_of_difference()) else { return false };
        let saved = whole.saturating_sub(delta + ENTRY);
        self.bases.saved.fetch_add(saved as u64, Ordering::Relaxed);
        saved > 0
    }

    fn size_of_difference(&mut self) -> Option<usize> {
        let difference = std::mem::take(&mut self.difference);
        let size = self.size(&difference);
        self.difference = difference;
        size
    }

    fn size(&mut self, page: &[u8]) -> Option<usize> {
        self.compressed.clear();
        self.compressor.compress_to_buffer(page, &mut self.compressed).ok()
    }
}
