//! A store whose files are not as they were written is refused, with the file's name.
mod common;
use ckpt_image::{Store, StoreError};
use common::*;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Two jobs, a chain, a merged checkpoint, blocks that compress and blocks that do not.
fn sample() -> (tempfile::TempDir, Store) {
    let (dir, store) = new_store();
    let a = save(&store, "job", None, |w| {
        w.record(&fs(1)).unwrap();
        w.pages(MM, 0, &pages(0..70)).unwrap();
    });
    let b = save(&store, "job", Some(&a), |w| {
        w.pages(MM, 3, &noise(1)).unwrap();
        w.absent(MM, 9, 1).unwrap();
    });
    save(&store, "job", Some(&b), |w| w.live(MM, 0, 60).unwrap());
    let c = save(&store, "other", None, |w| w.pages(SHM, 3, &pages([1])).unwrap());
    let d = save(&store, "other", Some(&c), |w| w.pages(SHM, 1, &pages([2])).unwrap());
    store.merge(&d).unwrap();
    (dir, store)
}

/// The file that the error is about is the one that was damaged.
fn assert_names(error: &StoreError, damaged: &[&Path], what: &str) {
    let path = error.path().unwrap_or_else(|| panic!("{what}: {error} names no file"));
    assert!(damaged.contains(&path), "{what}: {error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

/// Where a pack has the hashes of its pages.
fn hashes(path: &Path, file: &[u8]) -> std::ops::Range<usize> {
    if path.extension().is_none_or(|e| e != "pack") {
        return 0..0;
    }
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let trailer = file.len() - 80;
    let end = trailer - 40 * number(trailer);
    end - 16 * number(trailer + 8)..end
}

/// Neither verification nor use accepts the store; both name one of these files.
fn assert_refused(store: &Store, damaged: &[&Path], what: &str) {
    assert_found(store, damaged, what);
    assert_names(&read_all(store.path()).expect_err(what), damaged, what);
}

/// Verification finds these files, and nothing else to blame.
fn assert_found(store: &Store, damaged: &[&Path], what: &str) {
    let report = store.verify(None).unwrap();
    let bad: Vec<&Path> = report.bad.iter().map(|b| b.path.as_path()).collect();
    assert!(damaged.iter().all(|d| bad.contains(d)), "{what}: verify found {:?}", report.bad);
    // A checkpoint may also be bad for a parent or a pack that is; nothing else is to blame.
    report.bad.iter().for_each(|b| assert_names(&b.error, damaged, what));
}

#[test]
fn no_bit_may_flip() {
    let (_dir, store) = sample();
    let pages = read_all(store.path()).unwrap();
    assert_eq!(pages, 70 + 69 + 59 + 1 + 2);
    for path in files(store.path()) {
        let good = fs::read(&path).unwrap();
        // All bytes of small files; of large ones the ends, where the structure is, and samples of the rest.
        let step = |at: usize| if at < 600 || at + 600 > good.len() { 1 } else { 97 };
        let mut at = 0;
        while at < good.len() {
            // In place: writing the whole file anew makes the file system wait for the disk.
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[good[at] ^ (1 << (at % 8))], at as u64).unwrap();
            let what = format!("{} byte {at}", path.display());
            if hashes(&path, &good).contains(&at) {
                // No reader needs them.
                assert_found(&store, &[&path], &what);
                assert_eq!(read_all(store.path()).unwrap(), pages, "{what}");
            } else {
                assert_refused(&store, &[&path], &what);
            }
            file.write_all_at(&good[at..=at], at as u64).unwrap();
            at += step(at);
        }
    }
    assert!(store.verify(None).unwrap().is_good());
}

#[test]
fn no_file_may_be_cut_or_grow_or_vanish() {
    let (_dir, store) = sample();
    for path in files(store.path()) {
        let good = fs::read(&path).unwrap();
        let lengths =
            [0, 1, 7, 127, 128, 129, 159, 160, 175, good.len() / 2, good.len() - 33, good.len() - 1];
        for length in lengths.into_iter().filter(|l| *l < good.len()) {
            fs::write(&path, &good[..length]).unwrap();
            assert_refused(&store, &[&path], &format!("{} cut to {length}", path.display()));
        }
        for tail in [vec![0], good.clone(), vec![0; 5000]] {
            fs::write(&path, [good.as_slice(), &tail].concat()).unwrap();
            assert_refused(&store, &[&path], &format!("{} and more", path.display()));
        }
        fs::remove_file(&path).unwrap();
        let is_manifest = path.extension().is_some_and(|e| e == "manifest");
        if path.ends_with("format") {
            assert!(matches!(Store::open(store.path()), Err(StoreError::NotAStore { .. })));
        } else if !is_manifest {
            assert_refused(&store, &[&path], &format!("{} gone", path.display()));
        }
        fs::write(&path, &good).unwrap();
    }
    // A manifest that is gone is noticed where it is needed.
    let first = store.checkpoints(Some("job")).unwrap().remove(0).id;
    let path = store.path().join(format!("manifests/{first}.manifest"));
    fs::remove_file(&path).unwrap();
    assert_refused(&store, &[&path], "parent gone");
}

#[test]
fn no_two_files_may_change_places() {
    let (_dir, store) = sample();
    // Files of another store too: same names, same contents, other identity.
    let (_other_dir, other) = sample();
    let own = files(store.path());
    let swap = |a: &PathBuf, b: &PathBuf| {
        let (left, right) = (fs::read(a).unwrap(), fs::read(b).unwrap());
        fs::write(a, right).unwrap();
        fs::write(b, left).unwrap();
    };
    for (n, a) in own.iter().enumerate() {
        for b in &own[n + 1..] {
            swap(a, b);
            assert_refused(&store, &[a, b], &format!("{} and {}", a.display(), b.display()));
            swap(a, b);
        }
        for b in files(other.path()).iter().filter(|b| b.extension() == a.extension()) {
            swap(a, b);
            if a.ends_with("format") {
                // The store then says that it is the other one, and none of its files belong to that.
                assert!(read_all(store.path()).is_err());
                assert!(!store.verify(None).unwrap().is_good());
            } else {
                assert_refused(&store, &[a], &format!("{} from another store", a.display()));
            }
            swap(a, b);
        }
    }
    assert!(store.verify(None).unwrap().is_good());
}

#[test]
fn a_renamed_manifest_is_no_new_checkpoint() {
    let (_dir, store) = sample();
    let path = store.path().join("manifests/000000000000.manifest");
    let first =
        files(store.path()).into_iter().find(|f| f.extension().is_some_and(|e| e == "manifest")).unwrap();
    fs::copy(first, &path).unwrap();
    assert_refused(&store, &[&path], "copied manifest");
}

#[test]
fn strays_are_found() {
    let (_dir, store) = sample();
    for name in [
        "note.txt",
        "manifests/x",
        "data/core",
        "data/000000000000.exe",
        "manifests/000000000000.manifest.bak",
    ] {
        let path = store.path().join(name);
        fs::write(&path, "hello").unwrap();
        let report = store.verify(None).unwrap();
        assert_eq!(report.bad.len(), 1);
        assert_names(&report.bad[0].error, &[&path], name);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn verify_finds_every_bad_file_and_goes_on() {
    let (_dir, store) = sample();
    let damaged: Vec<PathBuf> = files(store.path()).into_iter().filter(|f| !f.ends_with("format")).collect();
    let all = store.verify(None).unwrap();
    assert_eq!(all.files, damaged.len() as u64 + 1);
    let lengths = files(store.path()).iter().map(|f| f.metadata().unwrap().len()).sum::<u64>();
    assert_eq!((all.checkpoints, all.bytes), (5, lengths));
    let data: Vec<&PathBuf> = damaged.iter().filter(|f| f.parent().unwrap().ends_with("data")).collect();
    for path in &data {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let report = store.verify(None).unwrap();
    assert_eq!(report.bad.len(), data.len());
    // One checkpoint: its chain only.
    let first = &store.checkpoints(Some("job")).unwrap()[0];
    let report = store.verify(Some(&first.id)).unwrap();
    assert_eq!(report.bad.len(), 3);
}

#[test]
fn a_damaged_checkpoint_does_not_block_the_others() {
    let (_dir, store) = sample();
    let last = store.latest("job").unwrap().unwrap();
    let path = store.path().join(format!("manifests/{}.manifest", last.id));
    fs::write(&path, "rubbish").unwrap();
    assert_eq!(store.checkpoints(None).unwrap().len(), 4);
    assert!(matches!(store.image(&last.id), Err(StoreError::Corrupt { .. })));
    let id = save(&store, "job", last.parent.as_ref(), |w| w.pages(MM, 0, &pages([8])).unwrap());
    assert_eq!(store.image(&id).unwrap().page(MM, 0).unwrap(), Some(page(8)));
    store.remove(&last.id).unwrap();
    store.collect_garbage().unwrap();
    assert_tidy(&store);
}

#[test]
fn a_checkpoint_is_removed_whatever_else_is_damaged() {
    let (_dir, store) = sample();
    let all = store.checkpoints(Some("job")).unwrap();
    let index = store.path().join("data").join(&all[0].files[1].name);
    fs::write(&index, "rubbish").unwrap();
    store.remove(&all[2].id).unwrap();
    // Its child needs it, and would lose what it has of it.
    assert!(matches!(store.remove(&all[0].id), Err(StoreError::Corrupt { path, .. }) if path == index));
    assert_eq!(store.checkpoints(Some("job")).unwrap().len(), 2);
    assert_eq!(store.prune("job", 0).unwrap().len(), 2);
    store.collect_garbage().unwrap();
    assert_tidy(&store);
}
