//! What the tests of the store share.
#![allow(dead_code, missing_docs, unreachable_pub)]
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{FsId, FsV1, InventoryV1, MmId, ShmemId};
use ckpt_image::{CheckpointId, CheckpointWriter, Image, Stats, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};

pub const MM: Space = Space::Private(MmId(1));
pub const SHM: Space = Space::Shmem(ShmemId(7));

/// An empty store in a directory of its own.
pub fn new_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("store")).unwrap();
    (dir, store)
}

/// A page that can be told from all others.
pub fn page(tag: u64) -> Vec<u8> {
    let mut bytes = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(PAGE_SIZE / 8);
    bytes[0] = 1;
    bytes
}

/// Pages with tags in a row.
pub fn pages(tags: impl IntoIterator<Item = u64>) -> Vec<u8> {
    tags.into_iter().flat_map(page).collect()
}

pub fn inventory(job: &str) -> InventoryV1 {
    InventoryV1 {
        job: job.into(),
        root_pid: 42,
        ckpt_version: "0.1.0".into(),
        machine: "x86_64".into(),
        kernel_release: "6.18".into(),
        hostname: "host".into(),
        boot_id: "boot".into(),
        page_size: 4096,
        xstate_size: 832,
        xcr0: 7,
        cpu_model: "cpu".into(),
        realtime_ns: 1,
        monotonic_ns: 2,
        boottime_ns: 3,
        vdso_hash: [9; 32],
    }
}

pub fn fs(id: u32) -> FsV1 {
    FsV1 { id: FsId(id), cwd: b"/tmp".to_vec(), root: b"/".to_vec(), umask: 0o22 }
}

/// A checkpoint with an inventory and what `fill` writes.
pub fn save(
    store: &Store,
    job: &str,
    parent: Option<&CheckpointId>,
    fill: impl FnOnce(&mut CheckpointWriter),
) -> CheckpointId {
    try_save(store, job, parent, fill).unwrap()
}

pub fn try_save(
    store: &Store,
    job: &str,
    parent: Option<&CheckpointId>,
    fill: impl FnOnce(&mut CheckpointWriter),
) -> Result<CheckpointId, StoreError> {
    let mut writer = store.begin(job, parent)?;
    writer.record(&inventory(job))?;
    fill(&mut writer);
    writer.commit(Stats { pause_us: 5, ..Stats::default() })
}

/// All pages of a space in a range.
pub fn contents(image: &Image, space: Space, pages: std::ops::Range<u64>) -> BTreeMap<u64, Vec<u8>> {
    try_contents(image, space, pages).unwrap()
}

pub fn try_contents(
    image: &Image,
    space: Space,
    pages: std::ops::Range<u64>,
) -> Result<BTreeMap<u64, Vec<u8>>, StoreError> {
    let mut found = BTreeMap::new();
    image.for_each_run::<StoreError>(space, pages, &mut |first, bytes| {
        for (page, number) in bytes.chunks(PAGE_SIZE).zip(first..) {
            assert!(found.insert(number, page.to_vec()).is_none(), "page {number} came twice");
        }
        Ok(())
    })?;
    Ok(found)
}

/// Page numbers and tags as [`contents`] gives them.
pub fn expect(pairs: impl IntoIterator<Item = (u64, u64)>) -> BTreeMap<u64, Vec<u8>> {
    pairs.into_iter().map(|(number, tag)| (number, page(tag))).collect()
}

/// A page that does not compress.
pub fn noise(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..PAGE_SIZE / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

/// A small generator of pseudo-random numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// All files of a store, those of writers at work left out.
pub fn files(store: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = vec![store.join("format")];
    for directory in ["manifests", "data"] {
        let entries = std::fs::read_dir(store.join(directory)).unwrap();
        files.extend(entries.map(|e| e.unwrap().path()));
    }
    files.sort();
    files
}

/// Opens the store and reads all of every checkpoint.
pub fn read_all(path: &std::path::Path) -> Result<u64, StoreError> {
    let store = Store::open(path)?;
    let (manifests, mut damaged) = store.scan()?;
    if let Some(error) = damaged.pop() {
        return Err(error);
    }
    let mut pages = 0;
    for manifest in manifests {
        let image = store.image(&manifest.id)?;
        image.inventory()?;
        image.records::<FsV1>()?;
        for space in image.spaces().collect::<Vec<_>>() {
            pages += try_contents(&image, space, 0..1 << 52)?.len() as u64;
        }
    }
    Ok(pages)
}

/// Every file in `data` is needed, nothing is in `tmp`, and verification finds nothing.
pub fn assert_tidy(store: &Store) {
    let manifests = store.checkpoints(None).unwrap();
    let needed: BTreeSet<String> = manifests.into_iter().flat_map(|m| m.files).map(|f| f.name).collect();
    let names = |d: &str| {
        let entries = std::fs::read_dir(store.path().join(d)).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names("data"), needed);
    assert_eq!(names("tmp"), BTreeSet::new());
    let report = store.verify(None).unwrap();
    assert!(report.is_good(), "{:?}", report.bad);
}
