//! What the tests of the store share.
#![allow(dead_code, missing_docs, unreachable_pub)]
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{FsId, FsV1, InventoryV1, MmId, ShmemId};
use ckpt_image::{CheckpointId, CheckpointWriter, Image, Stats, Store, StoreError};
use std::collections::BTreeMap;

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
    let mut bytes = vec![0; PAGE_SIZE];
    for (i, b) in bytes.iter_mut().enumerate() {
        *b = (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 8 * 8)) as u8;
    }
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
