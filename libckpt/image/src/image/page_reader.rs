use super::cache::BlockCache;
use super::read::Image;
use crate::StoreError;
use crate::format::BLOCK_PAGES;
use crate::map::Place;
use crate::page::{PAGE_SIZE, Space};
use std::ops::Range;

/// Takes the number of a page, and the bytes of that and the pages after it.
pub type Deliver<'a, E> = dyn FnMut(u64, &[u8]) -> Result<(), E> + 'a;

/// Reads pages of an image. What it decompressed last stays at hand, for pages of one block may be asked for one after the other.
pub struct PageReader<'i> {
    image: &'i Image,
    /// None: nothing was read yet.
    cache: Option<BlockCache>,
}

impl<'i> PageReader<'i> {
    pub(super) fn new(image: &'i Image) -> Self {
        Self { image, cache: None }
    }

    /// Gives the present pages of a range to `deliver`, by rising number, up to 64 in a row at a time. Each block of the
    /// packs is read, checked and decompressed once.
    ///
    /// # Errors
    /// A block is damaged; whatever `deliver` returns.
    pub fn for_each_run<E: From<StoreError>>(
        &mut self,
        space: Space,
        pages: Range<u64>,
        deliver: &mut Deliver<'_, E>,
    ) -> Result<(), E> {
        let mut whole = Vec::new();
        for e in self.image.map().range(space, pages) {
            let mut done = 0;
            while done < e.count {
                let left = e.count - done;
                let count = match e.value {
                    Place::Absent => left,
                    Place::Stored { pack, slot } => {
                        let run = self.run(pack, slot + done, left)?;
                        deliver(e.first + done, run)?;
                        (run.len() / PAGE_SIZE) as u64
                    }
                    Place::Delta { pack, slot, base_pack, base_slot } => {
                        whole.clear();
                        whole.extend_from_slice(self.run(base_pack, base_slot + done, left)?);
                        let left = (whole.len() / PAGE_SIZE) as u64;
                        let changes = self.run(pack, slot + done, left)?;
                        whole.truncate(changes.len());
                        whole.iter_mut().zip(changes).for_each(|(byte, change)| *byte ^= change);
                        deliver(e.first + done, &whole)?;
                        (whole.len() / PAGE_SIZE) as u64
                    }
                };
                done += count;
            }
        }
        Ok(())
    }

    /// At most `count` stored pages of one block, from the one in `slot` on.
    fn run(&mut self, pack: u32, slot: u64, count: u64) -> Result<&[u8], StoreError> {
        let reader = self.image.pack(pack)?;
        let (block, index) = (slot / BLOCK_PAGES as u64, slot % BLOCK_PAGES as u64);
        let count = (BLOCK_PAGES as u64 - index).min(count);
        let cache = match &mut self.cache {
            Some(cache) => cache,
            empty => empty.insert(BlockCache::new((2 * self.image.open_packs() + 6).min(64))?),
        };
        let bytes = cache.get(pack, reader, block)?;
        bytes.get(byte_offset(index)..byte_offset(index + count)).ok_or_else(|| {
            let reason = format!("block {block} has fewer pages than the page index says");
            StoreError::corrupt(reader.path(), reason)
        })
    }
}

impl std::fmt::Debug for PageReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageReader").finish_non_exhaustive()
    }
}

/// Where page `index` of a block begins.
fn byte_offset(index: u64) -> usize {
    usize::try_from(index).map_or(usize::MAX, |i| i * PAGE_SIZE)
}
