//! Decompressed blocks at hand.
use crate::StoreError;
use crate::store::{BlockReader, PackReader};

/// The blocks used last. Pages in a row may come from several blocks in turn (one a checkpoint of the chain), each of
/// which should be decompressed once.
pub(crate) struct BlockCache {
    reader: BlockReader,
    blocks: Vec<Cached>,
    capacity: usize,
    clock: u64,
}

struct Cached {
    pack: u32,
    block: u64,
    used: u64,
    pages: Vec<u8>,
}

impl BlockCache {
    /// A cache for as many blocks, of at most 256 KiB each.
    pub(crate) fn new(capacity: usize) -> Result<Self, StoreError> {
        Ok(Self { reader: BlockReader::new()?, blocks: Vec::new(), capacity, clock: 0 })
    }

    /// The pages of a block. `pack` is the number that `reader` goes by.
    pub(crate) fn get(&mut self, pack: u32, reader: &PackReader, block: u64) -> Result<&[u8], StoreError> {
        self.clock += 1;
        if let Some(at) = self.blocks.iter().position(|c| c.block == block && c.pack == pack) {
            self.blocks[at].used = self.clock;
            return Ok(&self.blocks[at].pages);
        }
        let oldest = self.blocks.iter().zip(0..).min_by_key(|(c, _)| c.used).map(|(_, at)| at);
        let mut pages = match oldest.filter(|_| self.blocks.len() >= self.capacity) {
            Some(at) => self.blocks.swap_remove(at).pages,
            None => Vec::new(),
        };
        self.reader.raw(reader, block, &mut pages)?;
        self.blocks.push(Cached { pack, block, used: self.clock, pages });
        Ok(self.blocks.last().map_or(&[], |c| &c.pages))
    }
}
