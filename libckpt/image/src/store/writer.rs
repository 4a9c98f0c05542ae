//! Writing a checkpoint.
use super::chain::{Delta, PackSet, resolve};
use super::compress::{Compression, DerivedPages, Pages};
use super::delta::{Bases, Derived};
use super::dir::{data_name, manifest_name};
use super::fold::index_of;
use super::known_pages::{Known, KnownPages, ParentPages};
use super::open::{Effort, Store};
use super::pack_file::PackFile;
use super::same_pages::SamePages;
use super::staging::Staging;
use crate::format::{
    BLOCK_LEN, BLOCK_PAGES, Kind, Manifest, Role, Stats, UNKNOWN_HASH, append_record, encode_manifest,
    hash_key, hash_page,
};
use crate::map::{END_OF_PAGES, Extent, ExtentMap, PageSet, Place};
use crate::page::{PAGE_SIZE, Space};
use crate::record::Record;
use crate::{CheckpointId, StoreError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of pages that wait where nobody is in a hurry: memory that the kernel has not seen before is slow to touch.
const SHORT_QUEUE: usize = 4 << 20;

static ZERO_PAGE: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// A checkpoint that is being written. Nobody sees it before [`CheckpointWriter::commit`]; dropped, it leaves nothing.
///
/// Pages that are never mentioned are the parent's, or zero when there is no parent.
#[derive(Debug)]
pub struct CheckpointWriter {
    store: Store,
    manifest: Manifest,
    records: Vec<u8>,
    map: ExtentMap<Place>,
    live: Option<PageSet>,
    same: SamePages,
    pages_stored: u64,
    /// What tells pages apart.
    hash_key: [u8; 32],
    /// Pages that are stored; known once the first page comes.
    known: Option<KnownPages>,
    /// Whether [`CheckpointWriter::pages`] may wait until earlier pages are stored.
    patient: bool,
    /// The block that is being filled, and its number.
    block: Pages,
    block_number: u64,
    // Before `staging`: its threads must have ended when the directory is removed.
    compression: Option<Compression>,
    staging: Staging,
}

impl Store {
    /// Begins a checkpoint of a job: an incremental one if it has a parent. The parent is not removed from the store
    /// while this is under way.
    ///
    /// # Errors
    /// [`StoreError::NoCheckpoint`] or [`StoreError::ForeignParent`] for the parent, [`StoreError::InvalidJob`]; the
    /// store cannot be written.
    pub fn begin(&self, job: &str, parent: Option<&CheckpointId>) -> Result<CheckpointWriter, StoreError> {
        check_job(job)?;
        let lock = self.lock_exclusive()?;
        if let Err(e) = self.collect_if_needed(&lock) {
            tracing::warn!("what a killed writer left behind stays for now: {e}");
        }
        if let Some(parent) = parent.map(|p| self.manifest(p)).transpose()?.filter(|p| p.job != job) {
            return Err(StoreError::ForeignParent {
                parent: parent.id,
                other: parent.job,
                job: job.to_owned(),
            });
        }
        let id = self.new_id(&lock)?;
        let newest = self.checkpoints(Some(job))?.iter().map(|m| m.sequence).max();
        let staging = Staging::create(&self.layout, &id, parent, "commit")?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let manifest = Manifest {
            id,
            job: job.to_owned(),
            kind: if parent.is_some() { Kind::Incremental } else { Kind::Full },
            parent: parent.cloned(),
            sequence: newest.map_or(1, |n| n + 1),
            created_ns: u64::try_from(created).unwrap_or(u64::MAX),
            stats: Stats::default(),
            files: Vec::new(),
        };
        Ok(CheckpointWriter {
            store: self.clone(),
            manifest,
            records: Vec::new(),
            map: ExtentMap::default(),
            live: None,
            same: SamePages::default(),
            pages_stored: 0,
            hash_key: hash_key(self.layout.id),
            known: None,
            patient: false,
            block: Pages::default(),
            block_number: 0,
            compression: None,
            staging,
        })
    }
}

impl CheckpointWriter {
    /// The id that the checkpoint will have.
    #[must_use]
    pub fn id(&self) -> &CheckpointId {
        &self.manifest.id
    }

    /// Full or incremental.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.manifest.kind
    }

    /// Pages given to [`CheckpointWriter::pages`] so far that were not zero.
    #[must_use]
    pub fn pages_stored(&self) -> u64 {
        self.pages_stored
    }

    /// Says that pages given from now on may take as long as it takes to store them, which needs less memory.
    pub fn be_patient(&mut self) {
        self.patient = true;
    }

    /// Adds a record. Every checkpoint has all its records; none are inherited.
    ///
    /// # Errors
    /// The record cannot be encoded.
    pub fn record<T: Record>(&mut self, record: &T) -> Result<(), StoreError> {
        append_record(&mut self.records, record)
    }

    /// Saves pages, whole ones, from number `first_page` on. Zero pages are not stored: they become absent. What was said of
    /// the same pages before is overridden.
    ///
    /// # Errors
    /// The store cannot be written (an error may be one of pages given earlier: they are written in the background);
    /// `bytes` is not whole pages.
    pub fn pages(&mut self, space: Space, first_page: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let count = (bytes.len() / PAGE_SIZE) as u64;
        let invalid = |reason| StoreError::InvalidPages { first_page, length: bytes.len(), reason };
        if !bytes.len().is_multiple_of(PAGE_SIZE) {
            return Err(invalid("not whole pages"));
        }
        check_range(first_page, count).map_err(invalid)?;
        let (mut at, mut page) = (0, first_page);
        while at < bytes.len() {
            let zero = bytes[at..at + PAGE_SIZE] == ZERO_PAGE;
            let run = bytes[at..].chunks_exact(PAGE_SIZE).take_while(|p| (*p == ZERO_PAGE) == zero).count();
            let end = at + run * PAGE_SIZE;
            if zero {
                self.map.insert(space, page, run as u64, Place::Absent);
            } else {
                self.store_pages(space, page, &bytes[at..end])?;
            }
            page += run as u64;
            at = end;
        }
        Ok(())
    }

    /// Says that pages are zero or untouched now, whatever the parent has there.
    ///
    /// # Errors
    /// The range goes beyond the last page.
    pub fn absent(&mut self, space: Space, first_page: u64, count: u64) -> Result<(), StoreError> {
        check_range(first_page, count).map_err(|reason| StoreError::InvalidPages {
            first_page,
            length: 0,
            reason,
        })?;
        self.map.insert(space, first_page, count, Place::Absent);
        Ok(())
    }

    /// Says that pages exist now, whether changed or not. Once this is called, pages that it was not called for are not
    /// part of the checkpoint, neither the parent's nor saved ones. Without any call all of the parent's pages are inherited.
    ///
    /// # Errors
    /// The range goes beyond the last page.
    pub fn live(&mut self, space: Space, first_page: u64, count: u64) -> Result<(), StoreError> {
        check_range(first_page, count).map_err(|reason| StoreError::InvalidPages {
            first_page,
            length: 0,
            reason,
        })?;
        self.live.get_or_insert_default().insert(space, first_page, count, ());
        Ok(())
    }

    /// Says that pages hold what other pages of this checkpoint hold, which is stored once: `count` pages of `space` from number `first_page` on,
    /// and as many of `of` from `of_first` on. Overrides what was or will be said of the former. The latter must not be said to be the same
    /// as others themselves; they may be the parent's.
    ///
    /// # Errors
    /// A range goes beyond the last page.
    pub fn same(
        &mut self,
        space: Space,
        first_page: u64,
        count: u64,
        of: Space,
        of_first: u64,
    ) -> Result<(), StoreError> {
        for first_page in [first_page, of_first] {
            check_range(first_page, count).map_err(|reason| StoreError::InvalidPages {
                first_page,
                length: 0,
                reason,
            })?;
        }
        self.same.add(space, first_page, count, of, of_first);
        Ok(())
    }

    /// Writes what is left and makes the checkpoint visible and durable. `stats.bytes_written` is filled in.
    ///
    /// # Errors
    /// The store cannot be written. The store is then as if the checkpoint had never been begun.
    pub fn commit(mut self, mut stats: Stats) -> Result<CheckpointId, StoreError> {
        self.end_block()?;
        let finished = self.compression.take().map(|mut c| c.finish()).transpose()?;
        let (pack, derived) = finished.unzip();
        let own = pack.as_ref().map(|pack| pack.name.clone());
        let mut packs = PackSet::default();
        if let Some(pack) = &pack {
            packs.number(pack);
        }
        self.settle(&mut packs, &derived.unwrap_or_default());
        let mut lock = None;
        if let Some(parent) = self.manifest.parent.as_ref().filter(|_| self.same.need_parent(&self.map)) {
            // From here on no file of the parent's is replaced by another.
            lock = Some(self.store.lock_shared()?);
            let (theirs, parent) = resolve(&mut self.store.layers(parent)?);
            self.same.resolve(&mut self.map, &mut packs, &theirs, &parent.map);
        } else {
            self.same.resolve(&mut self.map, &mut packs, &PackSet::default(), &ExtentMap::default());
        }
        if let Some(live) = &self.live {
            self.map = self.map.within(live);
        }
        let delta = Delta { live: self.live.take(), map: std::mem::take(&mut self.map) };
        let (packs, index) = index_of(&packs, &delta);
        let others: u64 =
            packs.iter().filter(|pack| Some(&pack.name) != own.as_ref()).map(|pack| pack.length).sum();
        let id = self.manifest.id.clone();
        self.staging.write_data(&mut self.manifest, &id, &self.records, &index, packs)?;
        // Numbers have a fixed width, so the length is known before the number that depends on it.
        let own = encode_manifest(&self.manifest, self.store.layout.id, &manifest_name(&id))?.len() as u64;
        stats.bytes_written = self.manifest.bytes() - others + own;
        self.manifest.stats = stats;
        self.staging.write_manifest(&self.manifest)?;
        let lock = lock.map_or_else(|| self.store.lock_shared(), Ok)?;
        self.staging.publish(&lock, &self.manifest)?;
        Ok(id)
    }

    /// Fills blocks with pages that are not zero and not stored already.
    fn store_pages(&mut self, space: Space, first_page: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.pages_stored += (bytes.len() / PAGE_SIZE) as u64;
        // Pages in a row that are new go into the map as one.
        let (mut new, mut at) = (first_page..first_page, 0);
        for (bytes, page) in bytes.chunks_exact(PAGE_SIZE).zip(first_page..) {
            let slot = self.block_number * BLOCK_PAGES as u64 + self.block.hashes.len() as u64;
            let (mut hash, mut base) = (UNKNOWN_HASH, None);
            if self.store.options.effort == Effort::Full {
                hash = hash_page(&self.hash_key, bytes);
            }
            if let Some(known) = self.known() {
                match known.find(space, page, &hash) {
                    Known::New { base: like } => base = like,
                    Known::Unchanged => {
                        self.map.remove(space, page..page + 1);
                        continue;
                    }
                    Known::At(place) => {
                        self.map.insert(space, page, 1, place);
                        continue;
                    }
                }
                known.add(hash, slot);
            }
            if new.end != page || at + (new.end - new.start) != slot {
                self.map.insert(space, new.start, new.end - new.start, Place::Stored { pack: 0, slot: at });
                (new, at) = (page..page, slot);
            }
            new.end += 1;
            self.block.bytes.extend_from_slice(bytes);
            self.block.hashes.push(hash);
            self.block.bases.push(base);
            if self.block.bytes.len() == BLOCK_LEN {
                self.end_block()?;
            }
        }
        self.map.insert(space, new.start, new.end - new.start, Place::Stored { pack: 0, slot: at });
        Ok(())
    }

    /// The pages that are stored; None: they are not looked for.
    fn known(&mut self) -> Option<&mut KnownPages> {
        if self.store.options.effort == Effort::Light {
            return None;
        }
        Some(self.known.get_or_insert_with(|| {
            let parent = self.manifest.parent.as_ref();
            let open = parent.map(|id| ParentPages::open(&self.store, id, &mut self.staging)).transpose();
            let parent = open.unwrap_or_else(|e| {
                // Then more is stored than need be.
                tracing::debug!("the parent's pages are not looked at: {e}");
                None
            });
            KnownPages::new(self.store.options.table_bytes, parent)
        }))
    }

    /// The numbers that packs have in `packs`: of its own pack, and of those of the parent.
    fn settle(&mut self, packs: &mut PackSet, derived: &DerivedPages) {
        let parents = self.known.as_ref().map_or(&[][..], KnownPages::parent_packs);
        let mut number = |pack: u32| {
            let file = usize::try_from(pack).ok().and_then(|n| parents.get(n));
            file.map_or(u32::MAX, |file| packs.number(file))
        };
        let mut settled = Vec::new();
        for (space, e) in self.map.iter() {
            let mut put = |first, count, value| settled.push((space, Extent { first, count, value }));
            let Place::Stored { pack: 0, slot } = e.value else {
                put(e.first, e.count, e.value.renumbered(|pack| number(pack - 1)));
                continue;
            };
            let mut next = slot;
            for (at, page) in derived.range(slot..slot + e.count) {
                if next < *at {
                    put(e.first + (next - slot), at - next, Place::Stored { pack: 0, slot: next });
                }
                let place = match *page {
                    Derived::Same((pack, slot)) => Place::Stored { pack: number(pack), slot },
                    Derived::Delta((pack, base_slot)) => {
                        Place::Delta { pack: 0, slot: *at, base_pack: number(pack), base_slot }
                    }
                };
                put(e.first + (at - slot), 1, place);
                next = at + 1;
            }
            if next < slot + e.count {
                put(e.first + (next - slot), slot + e.count - next, Place::Stored { pack: 0, slot: next });
            }
        }
        self.map = ExtentMap::rising(settled);
    }

    /// Sends the block that is being filled on its way.
    fn end_block(&mut self) -> Result<(), StoreError> {
        if self.block.bytes.is_empty() {
            return Ok(());
        }
        let packs = self.known().map_or_else(Default::default, |known| known.open_packs());
        let mut options = self.store.options;
        options.level = match (options.effort, self.manifest.kind) {
            (Effort::Light, _) => options.light_level,
            (Effort::Full, Kind::Incremental) => options.incremental_level,
            (Effort::Full, Kind::Full) => options.level,
        };
        if self.patient {
            options.queue_bytes = options.queue_bytes.min(SHORT_QUEUE);
        }
        let compression = match &mut self.compression {
            Some(compression) => compression,
            none => {
                let name = data_name(&self.manifest.id, Role::Pack);
                let path = self.staging.path().join(&name);
                let (store, operation) = (self.store.layout.id, self.staging.operation());
                let pack = PackFile::create(self.staging.path(), name, store, operation)?;
                none.insert(Compression::start(pack, path, options, &Bases::new(packs, options.delta_bytes))?)
            }
        };
        let next = Pages { bytes: compression.buffer(), ..Pages::default() };
        let block = std::mem::replace(&mut self.block, next);
        self.block.bytes.reserve(BLOCK_LEN);
        compression.push(self.block_number, block)?;
        self.block_number += 1;
        Ok(())
    }
}

fn check_range(first: u64, count: u64) -> Result<(), &'static str> {
    match first.checked_add(count) {
        Some(end) if end <= END_OF_PAGES => Ok(()),
        _ => Err("beyond the last page"),
    }
}

pub(super) fn check_job(job: &str) -> Result<(), StoreError> {
    let reason = match job {
        "" => "it is empty",
        j if j.len() > 255 => "it is longer than 255 bytes",
        j if j.contains(char::is_control) => "it has control characters",
        _ => return Ok(()),
    };
    Err(StoreError::InvalidJob { job: job.to_owned(), reason })
}
