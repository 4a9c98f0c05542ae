use super::page_reader::{Deliver, PageReader};
use crate::format::{BLOCK_PAGES, Manifest, RawRecord, Role, decode_record, split_records, unseal, unwrap};
use crate::map::{END_OF_PAGES, Extent, ExtentMap, Place};
use crate::page::Space;
use crate::record::{InventoryV1, Record, record_name};
use crate::store::{PackReader, Store, check_digest, resolve};
use crate::{CheckpointId, StoreError};
use serde::Serialize;
use std::ops::{Deref, Range};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// A checkpoint with its whole chain, open for reading. Its files stay readable when the checkpoint is removed
/// from the store meanwhile. Several threads may read at the same time.
#[derive(Debug)]
pub struct Image {
    head: ImageRecords,
    chain: Vec<CheckpointId>,
    /// By pack number; None for those that no page is in any more.
    packs: Vec<Option<PackReader>>,
    map: ExtentMap<Place>,
}

/// A checkpoint without its pages: its manifest and its records.
#[derive(Debug)]
pub struct ImageRecords {
    manifest: Manifest,
    records: Records,
}

/// The body of the records file.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    body: Vec<u8>,
    list: Vec<RawRecord>,
}

/// Pages in a row that are all present or all absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PageRun {
    /// First page's number.
    pub first_page: u64,
    /// Pages.
    pub count: u64,
    /// Whether the image has them; absent pages are zero or were never touched.
    pub present: bool,
}

/// Pages in a row of one space, held against those of the same numbers of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedRun {
    /// First page's number.
    pub first_page: u64,
    /// Pages.
    pub count: u64,
    /// Whether the one space has them.
    pub present: bool,
    /// Whether the other has them.
    pub other_present: bool,
    /// Whether the image has them once for both. Pages of equal contents may be stored apart.
    pub same: bool,
}

/// What an image holds of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RecordInfo {
    /// Kind.
    pub kind: u16,
    /// Version of the kind.
    pub version: u16,
    /// Name of its struct; None for an optional record that this library does not know.
    pub name: Option<&'static str>,
    /// Bytes of its encoding.
    pub bytes: usize,
}

impl Store {
    /// Opens a checkpoint with its chain. What is read here, and later every block of pages, is checked before use.
    ///
    /// # Errors
    /// [`StoreError::NoCheckpoint`]; a file is damaged; [`StoreError::UnknownRecord`]; [`StoreError::TooManyFiles`] for a long
    /// chain, whose packs are all kept open.
    pub fn image(&self, id: &CheckpointId) -> Result<Image, StoreError> {
        self.check_format()?;
        let image = self.following(id, || self.open_image(id))?;
        image.check_known()?;
        Ok(image)
    }

    /// Opens what of a checkpoint is not pages, which takes less time than [`Store::image`].
    ///
    /// # Errors
    /// As that of the files that are read: the checkpoint's own records.
    pub fn image_records(&self, id: &CheckpointId) -> Result<ImageRecords, StoreError> {
        self.check_format()?;
        let head = self.following(id, || {
            let manifest = self.manifest(id)?;
            let records = self.read_records(&manifest)?;
            Ok(ImageRecords { manifest, records })
        })?;
        head.check_known()?;
        Ok(head)
    }

    /// As [`Store::image`], whatever its records are.
    pub(crate) fn open_image(&self, id: &CheckpointId) -> Result<Image, StoreError> {
        let mut layers = self.layers(id)?;
        let (packs, pages) = resolve(&mut layers);
        let used = pages.used(packs.files.len());
        let open = packs.files.iter().zip(used).map(|(file, used)| {
            used.then(|| PackReader::open(self.layout.data_file(file), file, self.layout.id)).transpose()
        });
        let packs = open.collect::<Result<Vec<_>, _>>()?;
        let chain = layers.iter().map(|l| l.manifest.id.clone()).collect();
        let Some(layer) = layers.into_iter().next_back() else {
            return Err(StoreError::NoCheckpoint { id: id.clone(), store: self.layout.root.clone() });
        };
        let records = self.read_records(&layer.manifest)?;
        let head = ImageRecords { manifest: layer.manifest, records };
        Ok(Image { head, chain, packs, map: pages.map })
    }

    /// Reads and checks a checkpoint's records file.
    pub(crate) fn read_records(&self, manifest: &Manifest) -> Result<Records, StoreError> {
        let (path, file) = self.read_data(manifest, Role::Records)?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let (body, digest, version) = unseal(&file, &path, Role::Records, Some(self.layout.id), Some(name))?;
        check_digest(manifest, Role::Records, &path, digest)?;
        let body = unwrap(version, body, &path)?.into_owned();
        let list = split_records(&body, &path)?;
        Ok(Records { path, body, list })
    }
}

impl ImageRecords {
    fn check_known(&self) -> Result<(), StoreError> {
        self.records.list.iter().try_for_each(|record| record.check_known(&self.records.path))
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All records of one kind and version, in the order in which they were written.
    ///
    /// # Errors
    /// A record cannot be decoded.
    pub fn records<T: Record>(&self) -> Result<Vec<T>, StoreError> {
        let records = &self.records;
        let wanted = records.list.iter().filter(|r| (r.kind, r.version) == (T::KIND, T::VERSION));
        wanted.map(|r| decode_record(&records.body[r.payload.clone()], &records.path)).collect()
    }

    /// The record that says what the image is of.
    ///
    /// # Errors
    /// There is none, or it cannot be decoded.
    pub fn inventory(&self) -> Result<InventoryV1, StoreError> {
        let missing = || StoreError::NoRecord { path: self.records.path.clone(), name: InventoryV1::NAME };
        self.records()?.into_iter().next().ok_or_else(missing)
    }

    /// What records it has.
    pub fn record_list(&self) -> impl Iterator<Item = RecordInfo> {
        self.records.list.iter().map(|r| RecordInfo {
            kind: r.kind,
            version: r.version,
            name: record_name(r.kind, r.version),
            bytes: r.payload.len(),
        })
    }

    /// The body of its records file.
    pub(crate) fn records_body(&self) -> &[u8] {
        &self.records.body
    }
}

impl Deref for Image {
    type Target = ImageRecords;

    fn deref(&self) -> &ImageRecords {
        &self.head
    }
}

impl Image {
    /// The ids of its chain, from the full checkpoint to this one.
    #[must_use]
    pub fn chain(&self) -> &[CheckpointId] {
        &self.chain
    }

    /// The spaces that it has pages of.
    pub fn spaces(&self) -> impl Iterator<Item = Space> {
        self.map.spaces()
    }

    /// How many pages of a space it has.
    #[must_use]
    pub fn page_count(&self, space: Space) -> u64 {
        self.map.range(space, 0..END_OF_PAGES).map(|e| e.count).sum()
    }

    /// Whether at least so many of the pages in a range are present.
    #[must_use]
    pub fn has_pages(&self, space: Space, pages: Range<u64>, least: u64) -> bool {
        let mut counts = self.map.range(space, pages).map(|e| e.count);
        counts.try_fold(0, |sum, count| if sum + count < least { Ok(sum + count) } else { Err(()) }).is_err()
    }

    /// Which of the pages in a range are present. The runs cover the whole range in rising order.
    #[must_use]
    pub fn runs(&self, space: Space, pages: Range<u64>) -> Vec<PageRun> {
        let mut runs: Vec<PageRun> = Vec::new();
        let mut put = |first_page: u64, end: u64, present: bool| match runs.last_mut() {
            _ if first_page >= end => {}
            Some(last) if last.present == present => last.count += end - first_page,
            _ => runs.push(PageRun { first_page, count: end - first_page, present }),
        };
        let mut next = pages.start;
        for e in self.map.range(space, pages.clone()) {
            put(next, e.first, false);
            put(e.first, e.end(), true);
            next = e.end();
        }
        put(next, pages.end, false);
        runs
    }

    /// Holds the pages of a range of one space against those of another. The runs cover the whole range in rising order.
    #[must_use]
    pub fn compare(&self, space: Space, other: Space, pages: Range<u64>) -> Vec<ComparedRun> {
        let mut cuts = vec![pages.start, pages.end];
        for space in [space, other] {
            cuts.extend(self.map.range(space, pages.clone()).flat_map(|e| [e.first, e.end()]));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let place = |space: Space, at: u64| self.map.range(space, at..at + 1).next().map(|e| e.value);
        let runs = cuts.windows(2).map(|cut| {
            let (mine, theirs) = (place(space, cut[0]), place(other, cut[0]));
            ComparedRun {
                first_page: cut[0],
                count: cut[1] - cut[0],
                present: mine.is_some(),
                other_present: theirs.is_some(),
                same: mine == theirs,
            }
        });
        runs.collect()
    }

    /// Reads pages of it, and keeps what it decompresses at hand.
    #[must_use]
    pub fn reader(&self) -> PageReader<'_> {
        PageReader::new(self)
    }

    /// As [`PageReader::for_each_run`], with nothing at hand yet.
    ///
    /// # Errors
    /// A block is damaged; whatever `deliver` returns.
    pub fn for_each_run<E: From<StoreError>>(
        &self,
        space: Space,
        pages: Range<u64>,
        deliver: &mut Deliver<'_, E>,
    ) -> Result<(), E> {
        self.reader().for_each_run(space, pages, deliver)
    }

    /// One page; None when it is absent.
    ///
    /// # Errors
    /// Its block is damaged.
    pub fn page(&self, space: Space, page: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut found = None;
        self.for_each_run::<StoreError>(space, page..page.saturating_add(1), &mut |_, bytes| {
            found = Some(bytes.to_vec());
            Ok(())
        })?;
        Ok(found)
    }

    /// The pages next to `page` that are read at the same cost: those of the same block of a pack. None when it is absent.
    #[must_use]
    pub fn block_around(&self, space: Space, page: u64) -> Option<Range<u64>> {
        let around = page.saturating_sub(BLOCK_PAGES as u64)..page.saturating_add(BLOCK_PAGES as u64);
        let extent = self.map.range(space, around).find(|e| (e.first..e.end()).contains(&page))?;
        let (_, slot) = extent.value.slots().next()?;
        let before = ((slot + (page - extent.first)) % BLOCK_PAGES as u64).min(page - extent.first);
        let first = page - before;
        let index = (slot + (first - extent.first)) % BLOCK_PAGES as u64;
        Some(first..extent.end().min(first + BLOCK_PAGES as u64 - index))
    }

    /// The present pages of a range by the file that they are in, the greatest number last: as a rule that of the newest checkpoint.
    #[must_use]
    pub fn by_age(&self, space: Space, pages: Range<u64>) -> Vec<(u32, Range<u64>)> {
        let place = |e: Extent<Place>| Some((e.value.slots().next()?.0, e.first..e.end()));
        self.map.range(space, pages).filter_map(place).collect()
    }

    /// The descriptors that it reads from.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.packs.iter().flatten().map(PackReader::descriptor)
    }

    /// Where its pages are.
    pub(crate) fn map(&self) -> &ExtentMap<Place> {
        &self.map
    }

    /// How many packs it reads from.
    pub(super) fn open_packs(&self) -> usize {
        self.packs.iter().flatten().count()
    }

    pub(crate) fn pack(&self, number: u32) -> Result<&PackReader, StoreError> {
        let pack = usize::try_from(number).ok().and_then(|n| self.packs.get(n)?.as_ref());
        pack.ok_or_else(|| {
            StoreError::corrupt(&self.head.records.path, "its page index names a pack that is not open")
        })
    }
}
