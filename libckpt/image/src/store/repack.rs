//! Copying the pages that are needed out of packs.
use super::pack_reader::{BlockReader, PackReader};
use crate::StoreError;
use crate::format::{BLOCK_LEN, BLOCK_PAGES, BlockEntry, PageHash, UNKNOWN_HASH, compress_block};
use crate::map::{Extent, Place, Value};
use crate::page::PAGE_SIZE;
use std::collections::BTreeMap;
use std::path::Path;

/// Which pages of which blocks are needed: bit `i` for page `i`, by pack number and block number.
#[derive(Debug, Clone, Default)]
pub(super) struct Needed(BTreeMap<(u32, u64), u64>);

impl Needed {
    /// Adds the pages of an extent that are in packs, and their bases.
    pub(super) fn add(&mut self, extent: &Extent<Place>) {
        for slots in extent.value.slots() {
            for (pack, block, index, count) in pieces(slots, extent.count) {
                *self.0.entry((pack, block)).or_default() |= mask(index, count);
            }
        }
    }

    /// Its pages of one pack.
    pub(super) fn pages_of(&self, pack: u32) -> u64 {
        self.0.range((pack, 0)..=(pack, u64::MAX)).map(|(_, mask)| u64::from(mask.count_ones())).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the packs that `wanted` says.
    pub(super) fn retain(&mut self, wanted: impl Fn(u32) -> bool) {
        self.0.retain(|(pack, _), _| wanted(*pack));
    }
}

/// Where pages went: the new slot of each page of each block copied.
#[derive(Debug, Default)]
pub(super) struct Moved(BTreeMap<(u32, u64), Vec<u64>>);

impl Moved {
    /// The extent as it is in the new pack, of number `to`; pieces whose packs were not copied stay as they are.
    pub(super) fn apply(&self, extent: &Extent<Place>, to: u32, mut put: impl FnMut(u64, u64, Place)) {
        let mut first = extent.first;
        let (pack, slot) = match extent.value {
            Place::Absent => return put(extent.first, extent.count, Place::Absent),
            Place::Stored { pack, slot } => (pack, slot),
            Place::Delta { .. } => {
                for (n, page) in (extent.first..extent.end()).enumerate() {
                    put(page, 1, self.moved(extent.value.advance(n as u64), to));
                }
                return;
            }
        };
        for (pack, block, index, count) in pieces((pack, slot), extent.count) {
            match self.0.get(&(pack, block)) {
                Some(slots) => {
                    for (slot, page) in slots.iter().skip(index).take(count).zip(first..) {
                        put(page, 1, Place::Stored { pack: to, slot: *slot });
                    }
                }
                None => put(first, count as u64, extent.value.advance(first - extent.first)),
            }
            first += count as u64;
        }
    }

    /// Where one page that was in one place is in the new pack of number `to`.
    fn moved(&self, place: Place, to: u32) -> Place {
        let find = |pack: u32, slot: u64| {
            let index = usize::try_from(slot % BLOCK_PAGES as u64).unwrap_or_default();
            let slots = self.0.get(&(pack, slot / BLOCK_PAGES as u64));
            slots.and_then(|slots| slots.get(index)).map_or((pack, slot), |slot| (to, *slot))
        };
        match place {
            Place::Absent => Place::Absent,
            Place::Stored { pack, slot } => {
                let (pack, slot) = find(pack, slot);
                Place::Stored { pack, slot }
            }
            Place::Delta { pack, slot, base_pack, base_slot } => {
                let ((pack, slot), (base_pack, base_slot)) = (find(pack, slot), find(base_pack, base_slot));
                Place::Delta { pack, slot, base_pack, base_slot }
            }
        }
    }
}

/// Copies pages, in the order of packs and blocks. Blocks that are needed whole are passed on as they are stored, the rest
/// is packed anew. `put` takes a block and the hashes of its pages, and gives its number.
pub(super) fn copy<'a>(
    needed: &Needed,
    level: i32,
    pack: impl Fn(u32) -> Result<&'a PackReader, StoreError>,
    mut put: impl FnMut(BlockEntry, &[u8], &[PageHash]) -> Result<u64, StoreError>,
) -> Result<Moved, StoreError> {
    let mut reader = BlockReader::new()?;
    let mut moved = Moved::default();
    let mut partial = Partial::new(level)?;
    let mut raw = Vec::new();
    for ((number, block), mask) in &needed.0 {
        let source = pack(*number)?;
        let (entry, _) = source.block(*block)?;
        let pages = usize::from(entry.pages);
        let hashes = source.block_hashes(*block)?;
        if *mask >> (pages - 1) > 1 {
            let reason = format!("block {block} has fewer pages than the page index says");
            return Err(StoreError::corrupt(source.path(), reason));
        }
        if mask.count_ones() == u32::from(entry.pages) {
            let (entry, stored) = reader.stored(source, *block)?;
            let to = put(entry, stored, &hashes)? * BLOCK_PAGES as u64;
            moved.0.insert((*number, *block), (to..to + pages as u64).collect());
            continue;
        }
        reader.raw(source, *block, &mut raw)?;
        moved.0.insert((*number, *block), vec![u64::MAX; pages]);
        for index in (0..pages).filter(|i| mask >> i & 1 == 1) {
            partial.pages.extend_from_slice(&raw[index * PAGE_SIZE..][..PAGE_SIZE]);
            partial.from.push((*number, *block, index));
            partial.hashes.push(hashes.get(index).copied().unwrap_or(UNKNOWN_HASH));
            if partial.pages.len() == BLOCK_LEN {
                partial.flush(&mut moved, &mut put)?;
            }
        }
    }
    partial.flush(&mut moved, &mut put)?;
    Ok(moved)
}

/// A block of pages from several blocks.
struct Partial {
    pages: Vec<u8>,
    from: Vec<(u32, u64, usize)>,
    hashes: Vec<PageHash>,
    compressor: zstd::bulk::Compressor<'static>,
    stored: Vec<u8>,
}

impl Partial {
    fn new(level: i32) -> Result<Self, StoreError> {
        let compressor =
            zstd::bulk::Compressor::new(level).map_err(StoreError::writing(Path::new("pack"), "compress"))?;
        let pages = Vec::with_capacity(BLOCK_LEN);
        Ok(Self { pages, from: Vec::new(), hashes: Vec::new(), compressor, stored: Vec::new() })
    }

    fn flush(
        &mut self,
        moved: &mut Moved,
        put: &mut impl FnMut(BlockEntry, &[u8], &[PageHash]) -> Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        if self.from.is_empty() {
            return Ok(());
        }
        let entry = compress_block(&mut self.compressor, &self.pages, &mut self.stored)
            .map_err(StoreError::writing(Path::new("pack"), "compress"))?;
        let to = put(entry, &self.stored, &self.hashes)? * BLOCK_PAGES as u64;
        for ((pack, block, index), slot) in self.from.drain(..).zip(to..) {
            if let Some(slots) = moved.0.get_mut(&(pack, block)) {
                slots[index] = slot;
            }
        }
        self.pages.clear();
        self.hashes.clear();
        Ok(())
    }
}

/// Pages in a row by block: pack, block, index of the first page, pages.
fn pieces((pack, mut slot): (u32, u64), count: u64) -> impl Iterator<Item = (u32, u64, usize, usize)> {
    let end = slot + count;
    std::iter::from_fn(move || {
        let index = usize::try_from(slot % BLOCK_PAGES as u64).ok()?;
        let left = usize::try_from(end - slot).unwrap_or(usize::MAX);
        let piece = (pack, slot / BLOCK_PAGES as u64, index, left.min(BLOCK_PAGES - index));
        slot += piece.3 as u64;
        (piece.3 > 0).then_some(piece)
    })
}

/// `count` bits from bit `index` on.
fn mask(index: usize, count: usize) -> u64 {
    (u64::MAX >> (BLOCK_PAGES - count)) << index
}
