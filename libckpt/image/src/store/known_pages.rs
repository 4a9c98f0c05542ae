//! Pages that the store has already: of the checkpoint that is being written, and of its parent. They are known by their hashes.
use super::chain::{PackSet, resolve};
use super::open::Store;
use super::pack_reader::PackReader;
use super::staging::Staging;
use crate::format::{FileRef, PageHash, UNKNOWN_HASH};
use crate::map::{Extent, ExtentMap, Place, Value};
use crate::page::Space;
use crate::{CheckpointId, StoreError};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of memory that a page takes in a table, about.
const ENTRY: usize = 48;
/// So many of the parent's pages are entered for each page that is looked for: looking costs what changed, not what exists.
const ENTERED: usize = 64;

/// The parent's packs that are open, by number.
pub(super) type Packs = Arc<[Option<PackReader>]>;

/// Where pages are that are found. Pack 0 is that of the checkpoint itself; those of the parent are counted from 1.
#[derive(Debug)]
pub(super) struct KnownPages {
    own: HashMap<PageHash, u64>,
    /// Most pages of a table.
    limit: usize,
    parent: Option<ParentPages>,
}

/// The parent's pages. Its packs are pinned: they may be referred to even when a merge puts others in their place.
#[derive(Debug)]
pub(super) struct ParentPages {
    packs: PackSet,
    open: Packs,
    map: ExtentMap<Place>,
    table: HashMap<PageHash, Place>,
    /// What is not in the table yet, the newest last.
    left: Vec<Extent<Place>>,
    wanted: usize,
}

/// What is known of a page that is to be saved.
#[derive(Debug, PartialEq)]
pub(super) enum Known {
    /// It is what the parent has there.
    Unchanged,
    /// It is stored.
    At(Place),
    /// It is not. The parent's page there, which is whole, may be like it.
    New {
        /// Number of the parent's pack, from 0, and slot.
        base: Option<(u32, u64)>,
    },
}

impl KnownPages {
    /// Tables of so many bytes each.
    pub(super) fn new(bytes: usize, parent: Option<ParentPages>) -> Self {
        Self { own: HashMap::new(), limit: bytes / ENTRY, parent }
    }

    /// What is known of the page of this hash.
    pub(super) fn find(&mut self, space: Space, page: u64, hash: &PageHash) -> Known {
        let before = self.parent.as_ref().and_then(|parent| parent.place(space, page));
        if let (Some(parent), Some(place)) = (&self.parent, before)
            && parent.hash(place) == Some(*hash)
        {
            return Known::Unchanged;
        }
        if let Some(slot) = self.own.get(hash) {
            return Known::At(Place::Stored { pack: 0, slot: *slot });
        }
        if let Some(place) = self.parent.as_mut().and_then(|parent| parent.find(hash, self.limit)) {
            return Known::At(place.renumbered(|pack| pack + 1));
        }
        let base = before.and_then(|place| place.slots().last());
        Known::New { base }
    }

    /// A page has been stored in this slot.
    pub(super) fn add(&mut self, hash: PageHash, slot: u64) {
        if self.own.len() < self.limit {
            self.own.insert(hash, slot);
        }
    }

    /// The parent's packs.
    pub(super) fn open_packs(&self) -> Packs {
        self.parent.as_ref().map_or_else(|| Arc::from([]), |parent| parent.open.clone())
    }

    /// The parent's packs, by number.
    pub(super) fn parent_packs(&self) -> &[FileRef] {
        self.parent.as_ref().map_or(&[], |parent| &parent.packs.files)
    }
}

impl ParentPages {
    /// Those of checkpoint `id`, whose packs are pinned in `staging`.
    pub(super) fn open(store: &Store, id: &CheckpointId, staging: &mut Staging) -> Result<Self, StoreError> {
        let (packs, open, map) = store.following(id, || {
            let (packs, pages) = resolve(&mut store.layers(id)?);
            let used = pages.used(packs.files.len());
            let open = packs.files.iter().zip(used).map(|(file, used)| {
                used.then(|| {
                    let path = staging.pin(file)?;
                    PackReader::open(path, file, store.layout.id)
                })
                .transpose()
            });
            let open = open.collect::<Result<Vec<_>, _>>()?;
            Ok((packs, open, pages.map))
        })?;
        let mut left: Vec<_> = map.iter().map(|(_, e)| e).filter(|e| e.value != Place::Absent).collect();
        left.sort_by_key(|e| e.value.slots().next());
        Ok(Self { packs, open: open.into(), map, table: HashMap::new(), left, wanted: 0 })
    }

    fn place(&self, space: Space, page: u64) -> Option<Place> {
        let found = self.map.range(space, page..page + 1).next().map(|e| e.value);
        found.filter(|place| *place != Place::Absent)
    }

    fn hash(&self, place: Place) -> Option<PageHash> {
        let (pack, slot) = place.slots().next()?;
        let pack = self.open.get(usize::try_from(pack).ok()?)?.as_ref()?;
        // Damage costs no more than the page's being stored again; who reads the pack will tell of it.
        pack.page_hash(slot).unwrap_or_default().filter(|hash| *hash != UNKNOWN_HASH)
    }

    fn find(&mut self, hash: &PageHash, limit: usize) -> Option<Place> {
        self.wanted = (self.wanted + ENTERED).min(limit);
        while self.table.len() < self.wanted
            && let Some(extent) = self.left.pop()
        {
            let count = extent.count.min(ENTERED as u64);
            for place in (0..count).map(|n| extent.value.advance(n)) {
                if let Some(hash) = self.hash(place) {
                    self.table.insert(hash, place);
                }
            }
            if extent.count > count {
                let value = extent.value.advance(count);
                self.left.push(Extent { first: extent.first + count, count: extent.count - count, value });
            }
        }
        self.table.get(hash).copied()
    }
}
