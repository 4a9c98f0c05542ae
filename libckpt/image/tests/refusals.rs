//! Stores that cannot be used are refused with the cause and what to do.
mod common;
use ckpt_image::record::Record;
use ckpt_image::{Stats, Store, StoreError};
use common::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert!(matches!(Store::open(&missing), Err(StoreError::NotFound { path }) if path == missing));
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotAStore { .. })));
    let file = dir.path().join("file");
    fs::write(&file, "hello").unwrap();
    for open in [Store::open, Store::create, Store::open_or_create] {
        assert!(matches!(open(file.clone()), Err(StoreError::NotAStore { path, .. }) if path == file));
    }
    // Not empty: nothing is touched.
    assert!(matches!(Store::create(dir.path()), Err(StoreError::NotAStore { .. })));
    assert!(matches!(Store::open_or_create(dir.path()), Err(StoreError::NotAStore { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // A store's format file that is something else.
    fs::write(dir.path().join("format"), "a format of another kind").unwrap();
    assert!(matches!(Store::open_or_create(dir.path()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn created_once_opened_often() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/store");
    Store::open_or_create(&path).unwrap();
    Store::open_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(matches!(Store::create(&path), Err(StoreError::NotAStore { .. })));
    // As a creation leaves it that was cut off before its end.
    fs::remove_file(path.join("format")).unwrap();
    save(&Store::open_or_create(&path).unwrap(), "job", None, |_| {});
    // An empty directory is as good as none.
    let empty = tempfile::tempdir().unwrap();
    Store::create(empty.path()).unwrap();
    // All at the same time.
    let path = dir.path().join("race");
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| save(&Store::open_or_create(&path).unwrap(), "job", None, |_| {}));
        }
    });
    assert_tidy(&Store::open(&path).unwrap());
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let (_dir, store) = new_store();
    let id = save(&store, "job", None, |_| {});
    for path in files(store.path()) {
        let good = fs::read(&path).unwrap();
        let mut newer = good.clone();
        newer[8] = 3;
        let checksum = blake3::hash(&newer[..96]);
        newer[96..128].copy_from_slice(checksum.as_bytes());
        fs::write(&path, &newer).unwrap();
        match Store::open(store.path()).and_then(|s| s.image(&id)) {
            Err(StoreError::Newer { path: p, found: 3, known: 2 }) => assert_eq!(p, path),
            other => panic!("{}: {other:?}", path.display()),
        }
        fs::write(&path, &good).unwrap();
    }
}

#[derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
struct Required(u32);
#[derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
struct Optional(u32);

impl Record for Required {
    const KIND: u16 = 60_000;
    const VERSION: u16 = 9;
    const REQUIRED: bool = true;
    const NAME: &'static str = "Required";
}

impl Record for Optional {
    const KIND: u16 = 60_001;
    const VERSION: u16 = 9;
    const REQUIRED: bool = false;
    const NAME: &'static str = "Optional";
}

#[test]
fn unknown_records_are_refused_if_required_and_kept_if_not() {
    let (_dir, store) = new_store();
    let required = save(&store, "job", None, |w| w.record(&Required(1)).unwrap());
    let optional = save(&store, "job", None, |w| w.record(&Optional(2)).unwrap());
    assert!(matches!(
        store.image(&required),
        Err(StoreError::UnknownRecord { kind: 60_000, version: 9, .. })
    ));
    let image = store.image(&optional).unwrap();
    assert_eq!(image.inventory().unwrap().root_pid, 42);
    assert_eq!(image.records::<Optional>().unwrap(), [Optional(2)]);
    let unknown = image.record_list().find(|r| r.kind == 60_001).unwrap();
    assert_eq!((unknown.name, unknown.version), (None, 9));
    // Nothing is wrong with either's bytes.
    assert!(store.verify(None).unwrap().is_good());
    let mut stream = Vec::new();
    store.export(&optional, &mut stream).unwrap();
    let copy = store.import(stream.as_slice()).unwrap();
    assert_eq!(store.image(&copy).unwrap().records::<Optional>().unwrap(), [Optional(2)]);
}

/// Gives everything under `path` these permissions.
fn chmod(path: &std::path::Path, directories: u32, files: u32) {
    let is_dir = path.is_dir();
    let mode = if is_dir { directories } else { files };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if is_dir {
        fs::read_dir(path).unwrap().for_each(|e| chmod(&e.unwrap().path(), directories, files));
    }
}

#[test]
fn reading_needs_no_more_than_permission_to_read() {
    let (dir, store) = new_store();
    let a = save(&store, "job", None, |w| w.pages(MM, 0, &pages([1])).unwrap());
    let b = save(&store, "job", Some(&a), |w| w.pages(MM, 1, &pages([2])).unwrap());
    chmod(dir.path(), 0o555, 0o444);
    // File access as an ordinary user, in this thread alone.
    std::thread::spawn(move || {
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setfsuid(65_534.into());
        }
        let store = Store::open(store.path()).unwrap();
        assert_eq!(store.checkpoints(None).unwrap().len(), 2);
        assert_eq!(contents(&store.image(&b).unwrap(), MM, 0..9), expect([(0, 1), (1, 2)]));
        assert!(store.verify(None).unwrap().is_good());
        store.export(&b, std::io::sink()).unwrap();
        let refused =
            |e: Result<(), StoreError>| assert!(matches!(e, Err(StoreError::NotWritable { .. })), "{e:?}");
        refused(store.begin("job", None).map(|_| ()));
        refused(store.merge(&b));
        refused(store.remove(&b));
        refused(store.collect_garbage());
        refused(Store::create(store.path().parent().unwrap().join("new")).map(|_| ()));
        let mut stream = Vec::new();
        store.export(&a, &mut stream).unwrap();
        refused(store.import(stream.as_slice()).map(|_| ()));
    })
    .join()
    .unwrap();
    chmod(dir.path(), 0o700, 0o200);
    let path = dir.path().join("store");
    std::thread::spawn(move || {
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setfsuid(65_534.into());
        }
        assert!(matches!(Store::open(path), Err(StoreError::NotReadable { .. })));
    })
    .join()
    .unwrap();
    chmod(dir.path(), 0o700, 0o600);
}

#[test]
fn new_files_are_as_readable_as_their_directory() {
    let (_dir, store) = new_store();
    save(&store, "job", None, |_| {});
    let modes = || {
        let modes =
            files(store.path()).into_iter().map(|f| f.metadata().unwrap().permissions().mode() & 0o777);
        modes.collect::<Vec<_>>()
    };
    assert!(modes().iter().all(|m| *m == 0o600), "memory is nobody's business");
    chmod(store.path(), 0o750, 0o640);
    save(&store, "job", None, |_| {});
    assert!(modes().iter().all(|m| *m == 0o640));
}

#[test]
fn a_full_disk_is_told_as_one() {
    let (_dir, store) = new_store();
    let id = save(&store, "job", None, |w| w.pages(MM, 0, &noise(1)).unwrap());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(matches!(store.export(&id, full), Err(StoreError::DiskFull { .. })));
}

#[test]
fn a_store_replaced_under_a_writer_is_noticed() {
    let (_dir, store) = new_store();
    let writer = store.begin("job", None).unwrap();
    fs::remove_file(store.path().join("format")).unwrap();
    let (_other_dir, other) = new_store();
    fs::copy(other.path().join("format"), store.path().join("format")).unwrap();
    assert!(matches!(writer.commit(Stats::default()), Err(StoreError::Swapped { .. })));
    assert!(matches!(store.begin("job", None), Err(StoreError::Swapped { .. })));
}

#[test]
fn manifests_are_shown_as_json() {
    let (_dir, store) = new_store();
    let id = save(&store, "job", None, |_| {});
    let json = serde_json::to_value(store.manifest(&id).unwrap()).unwrap();
    assert_eq!(json["id"], id.as_str());
    assert_eq!(json["kind"], "full");
    assert_eq!(json["files"][0]["role"], "records");
    assert_eq!(json["stats"]["pause_us"], 5);
}
