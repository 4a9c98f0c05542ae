//! A store and a stream written by each version of the format are read by every later one.
//!
//! `golden/records-v1.json` says what records are in those of the newest. They are never written again, with one exception: as long as no version has
//! been released, `cargo test -p ckpt-image --test golden -- --ignored` writes them anew after a change of the records. Those of earlier versions of the
//! format stay as they are.
mod common;
use ckpt_image::page::Space;
use ckpt_image::record::*;
use ckpt_image::{CheckpointWriter, Image, Kind, Store};
use common::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const GHOST: Space = Space::Ghost(GhostId(1));

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn expected() -> Value {
    serde_json::from_str(&fs::read_to_string(golden("records-v1.json")).unwrap()).unwrap()
}

fn write_kind<T: Record + DeserializeOwned>(w: &mut CheckpointWriter, records: &Value) {
    let records: Vec<T> = serde_json::from_value(records.clone()).unwrap();
    records.iter().for_each(|r| w.record(r).unwrap());
}

fn read_kind<T: Record + Serialize>(image: &Image) -> Value {
    serde_json::to_value(image.records::<T>().unwrap()).unwrap()
}

/// The newest checkpoint holds all records and these pages.
fn check(image: &Image) {
    check_records(image);
    let mut private = private_pages();
    private.extend([(60, slightly_changed(60)), (61, page(3)), (62, page(62))]);
    check_pages(image, &private);
}

fn check_v1(image: &Image) {
    check_pages(image, &private_pages());
}

fn private_pages() -> BTreeMap<u64, Vec<u8>> {
    let mut private = expect((0..4).chain(6..80).map(|n| (n, n)));
    private.insert(2, noise(9));
    private.insert(70, page(1070));
    private
}

fn slightly_changed(tag: u64) -> Vec<u8> {
    let mut bytes = noise(tag);
    bytes[100..104].copy_from_slice(b"ckpt");
    bytes
}

fn check_records(image: &Image) {
    let found = serde_json::json!({
        "inventory": read_kind::<InventoryV1>(image),
        "task": read_kind::<TaskV1>(image),
        "thread": read_kind::<ThreadV1>(image),
        "mm": read_kind::<MmV1>(image),
        "shmem": read_kind::<ShmemV1>(image),
        "sighand": read_kind::<SighandV1>(image),
        "fs": read_kind::<FsV1>(image),
        "fd_table": read_kind::<FdTableV1>(image),
        "open_file": read_kind::<OpenFileV1>(image),
        "ghost": read_kind::<GhostV1>(image),
        "dead_task": read_kind::<DeadTaskV1>(image),
        "seccomp_filter": read_kind::<SeccompFilterV1>(image),
        "semaphores": read_kind::<SemaphoresV1>(image),
        "named_file": read_kind::<NamedFileV1>(image),
        "message_queue": read_kind::<MessageQueueV1>(image),
        "namespaces": read_kind::<NamespacesV1>(image),
        "nameless": read_kind::<NamelessV1>(image),
        "tmpfs_file": read_kind::<TmpfsFileV1>(image),
        "controls": read_kind::<ControlsV1>(image),
        "cgroups": read_kind::<CgroupsV1>(image),
        "unshared": read_kind::<UnsharedV1>(image),
        "further_namespace": read_kind::<FurtherNamespaceV1>(image),
        "memory_policy": read_kind::<MemoryPolicyV1>(image),
    });
    for (kind, records) in expected().as_object().unwrap() {
        assert_eq!(found[kind], *records, "{kind}");
    }
}

fn check_pages(image: &Image, private: &BTreeMap<u64, Vec<u8>>) {
    assert!(contents(image, MM, 0..1 << 52) == *private);
    assert!(contents(image, SHM, 0..1 << 52) == expect([(1, 5)]));
    assert!(contents(image, GHOST, 0..1 << 52) == BTreeMap::from([(0, noise(1)), (1, noise(2))]));
}

fn check_store(name: &str, check: fn(&Image)) {
    let store = Store::open(golden(name)).unwrap();
    let report = store.verify(None).unwrap();
    assert!(report.is_good(), "{:?}", report.bad);
    let all = store.checkpoints(Some("golden")).unwrap();
    assert_eq!(
        all.iter().map(|m| (m.kind, m.sequence)).collect::<Vec<_>>(),
        [(Kind::Full, 1), (Kind::Incremental, 2)]
    );
    let first = store.image(&all[0].id).unwrap();
    let mut found = contents(&first, MM, 0..1 << 52);
    // Only later versions have something worth a delta there.
    found.remove(&60);
    assert!(found == expect((0..100).filter(|n| *n != 60).map(|n| (n, n))));
    check(&store.image(&all[1].id).unwrap());
}

#[test]
fn the_stores() {
    check_store("store-v1", check_v1);
    check_store("store-v2", check);
}

#[test]
fn the_streams() {
    for (name, check) in [("stream-v1.ckpt", check_v1 as fn(&Image)), ("stream-v2.ckpt", check)] {
        let (_dir, store) = new_store();
        let id = store.import(fs::File::open(golden(name)).unwrap()).unwrap();
        check(&store.image(&id).unwrap());
    }
}

#[test]
#[ignore = "writes the golden files"]
fn write() {
    let path = golden("store-v2");
    let _ = fs::remove_dir_all(&path);
    let store = Store::create(&path).unwrap();
    let first = save(&store, "golden", None, |w| {
        w.pages(MM, 0, &pages(0..100)).unwrap();
        w.pages(MM, 60, &noise(60)).unwrap();
        w.pages(SHM, 0, &pages([4, 5])).unwrap();
    });
    let mut w = store.begin("golden", Some(&first)).unwrap();
    let records = expected();
    write_kind::<InventoryV1>(&mut w, &records["inventory"]);
    write_kind::<TaskV1>(&mut w, &records["task"]);
    write_kind::<ThreadV1>(&mut w, &records["thread"]);
    write_kind::<MmV1>(&mut w, &records["mm"]);
    write_kind::<ShmemV1>(&mut w, &records["shmem"]);
    write_kind::<SighandV1>(&mut w, &records["sighand"]);
    write_kind::<FsV1>(&mut w, &records["fs"]);
    write_kind::<FdTableV1>(&mut w, &records["fd_table"]);
    write_kind::<OpenFileV1>(&mut w, &records["open_file"]);
    write_kind::<GhostV1>(&mut w, &records["ghost"]);
    write_kind::<DeadTaskV1>(&mut w, &records["dead_task"]);
    write_kind::<SeccompFilterV1>(&mut w, &records["seccomp_filter"]);
    write_kind::<SemaphoresV1>(&mut w, &records["semaphores"]);
    write_kind::<NamedFileV1>(&mut w, &records["named_file"]);
    write_kind::<MessageQueueV1>(&mut w, &records["message_queue"]);
    write_kind::<NamespacesV1>(&mut w, &records["namespaces"]);
    write_kind::<NamelessV1>(&mut w, &records["nameless"]);
    write_kind::<TmpfsFileV1>(&mut w, &records["tmpfs_file"]);
    write_kind::<ControlsV1>(&mut w, &records["controls"]);
    write_kind::<CgroupsV1>(&mut w, &records["cgroups"]);
    write_kind::<UnsharedV1>(&mut w, &records["unshared"]);
    write_kind::<FurtherNamespaceV1>(&mut w, &records["further_namespace"]);
    write_kind::<MemoryPolicyV1>(&mut w, &records["memory_policy"]);
    w.live(MM, 0, 80).unwrap();
    w.live(SHM, 1, 1).unwrap();
    w.live(GHOST, 0, 2).unwrap();
    w.absent(MM, 4, 2).unwrap();
    w.pages(MM, 2, &noise(9)).unwrap();
    w.pages(MM, 70, &pages([1070])).unwrap();
    // A delta, a page that is elsewhere in the parent, and one that has not changed.
    w.pages(MM, 60, &slightly_changed(60)).unwrap();
    w.pages(MM, 61, &pages([3, 62])).unwrap();
    w.pages(GHOST, 0, &[noise(1), noise(2)].concat()).unwrap();
    let id = w.commit(Default::default()).unwrap();
    store.export(&id, fs::File::create(golden("stream-v2.ckpt")).unwrap()).unwrap();
}
