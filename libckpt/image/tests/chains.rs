//! Merge, remove, prune, compaction, export and import: contents stay, garbage goes.
mod common;
use ckpt_image::record::FsV1;
use ckpt_image::{CheckpointId, Kind, Store, StoreError};
use common::*;
use std::collections::BTreeMap;

/// A chain of four with overlaps, zeros and a space that comes and goes.
fn chain(store: &Store) -> Vec<CheckpointId> {
    let a = save(store, "job", None, |w| {
        w.record(&fs(1)).unwrap();
        w.pages(MM, 0, &pages(0..300)).unwrap();
        w.pages(SHM, 5, &pages([5])).unwrap();
    });
    let b = save(store, "job", Some(&a), |w| {
        w.record(&fs(2)).unwrap();
        w.pages(MM, 10, &pages(1010..1100)).unwrap();
        w.absent(MM, 250, 10).unwrap();
    });
    let c = save(store, "job", Some(&b), |w| {
        w.record(&fs(3)).unwrap();
        w.live(MM, 0, 260).unwrap();
        w.pages(MM, 50, &pages(2050..2060)).unwrap();
    });
    let d = save(store, "job", Some(&c), |w| {
        w.record(&fs(4)).unwrap();
        w.pages(MM, 270, &pages(3270..3280)).unwrap();
    });
    vec![a, b, c, d]
}

type Contents = (BTreeMap<u64, Vec<u8>>, BTreeMap<u64, Vec<u8>>, Vec<FsV1>);

fn state(store: &Store, id: &CheckpointId) -> Contents {
    let image = store.image(id).unwrap();
    (contents(&image, MM, 0..1 << 40), contents(&image, SHM, 0..1 << 40), image.records().unwrap())
}

fn states(store: &Store, ids: &[CheckpointId]) -> Vec<Contents> {
    ids.iter().map(|id| state(store, id)).collect()
}

#[test]
fn a_merged_checkpoint_is_full_and_keeps_its_id() {
    let (_dir, store) = new_store();
    let ids = chain(&store);
    let before = states(&store, &ids);
    store.merge(&ids[2]).unwrap();
    store.merge(&ids[2]).unwrap();
    let m = store.manifest(&ids[2]).unwrap();
    assert_eq!((m.kind, m.parent, m.stats.pause_us), (Kind::Full, None, 5));
    assert_eq!(store.image(&ids[3]).unwrap().chain(), &ids[2..]);
    assert_eq!(states(&store, &ids), before);
    assert_tidy(&store);
    for old in &ids[..2] {
        store.remove(old).unwrap();
    }
    assert_eq!(states(&store, &ids[2..]), before[2..]);
    assert_tidy(&store);
}

#[test]
fn a_removed_parent_goes_into_its_children() {
    for victim in 0..4 {
        let (_dir, store) = new_store();
        let mut ids = chain(&store);
        let sibling = save(&store, "job", Some(&ids[1]), |w| w.pages(MM, 20, &pages([77])).unwrap());
        ids.push(sibling);
        let mut before = states(&store, &ids);
        store.remove(&ids[victim]).unwrap();
        assert!(matches!(store.image(&ids[victim]), Err(StoreError::NoCheckpoint { .. })));
        ids.remove(victim);
        before.remove(victim);
        assert_eq!(states(&store, &ids), before);
        assert_tidy(&store);
        while let Some(id) = ids.pop() {
            before.pop();
            store.remove(&id).unwrap();
            assert_eq!(states(&store, &ids), before);
            assert_tidy(&store);
        }
        assert_eq!(std::fs::read_dir(store.path().join("data")).unwrap().count(), 0);
    }
}

#[test]
fn removing_from_the_old_end_keeps_every_state() {
    let (_dir, store) = new_store();
    let ids = chain(&store);
    let before = states(&store, &ids);
    for n in 0..3 {
        store.remove(&ids[n]).unwrap();
        assert_eq!(states(&store, &ids[n + 1..]), before[n + 1..]);
    }
    assert_tidy(&store);
}

#[test]
fn prune_keeps_the_newest() {
    for keep in 0..6 {
        let (_dir, store) = new_store();
        let ids = chain(&store);
        save(&store, "other", None, |_| {});
        let before = states(&store, &ids);
        let split = 4_usize.saturating_sub(keep);
        assert_eq!(store.prune("job", keep).unwrap(), ids[..split]);
        assert_eq!(states(&store, &ids[split..]), before[split..]);
        assert_eq!(store.checkpoints(None).unwrap().len(), 4 - split + 1);
        assert_tidy(&store);
    }
}

#[test]
fn a_parent_in_use_stays() {
    let (_dir, store) = new_store();
    let ids = chain(&store);
    let writer = store.begin("job", Some(&ids[3])).unwrap();
    match store.remove(&ids[3]) {
        Err(StoreError::InUse { id, writer: w }) => {
            assert_eq!((&id, w.as_str()), (&ids[3], writer.id().as_str()))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.prune("job", 0).unwrap(), ids[..3]);
    let id = writer.commit(Default::default()).unwrap();
    assert_eq!(store.image(&id).unwrap().chain(), [ids[3].clone(), id]);
    assert_tidy(&store);
}

#[test]
fn garbage_is_given_back() {
    let (_dir, store) = new_store();
    let mut id = save(&store, "job", None, |w| w.pages(MM, 0, &pages(0..2000)).unwrap());
    let full = store.manifest(&id).unwrap().bytes();
    id = save(&store, "job", Some(&id), |w| w.pages(MM, 1, &pages(5000..6900)).unwrap());
    let before = state(&store, &id);
    store.prune("job", 1).unwrap();
    assert_eq!(state(&store, &id), before);
    let m = store.manifest(&id).unwrap();
    assert!(m.bytes() < full * 3 / 2, "{} of {full}", m.bytes());
    // Half of the pages of one pack each: no reason to rewrite.
    assert_tidy(&store);
}

#[test]
fn many_small_packs_become_few() {
    let (_dir, store) = new_store();
    let mut id = save(&store, "job", None, |w| w.pages(MM, 0, &pages(0..500)).unwrap());
    for n in 0..60 {
        id = save(&store, "job", Some(&id), |w| w.pages(MM, n * 8, &pages([7000 + n])).unwrap());
    }
    let before = state(&store, &id);
    store.prune("job", 1).unwrap();
    assert_eq!(state(&store, &id), before);
    assert!(store.manifest(&id).unwrap().files.len() < 30);
    assert_tidy(&store);
}

#[test]
fn an_open_image_outlives_its_checkpoint() {
    let (_dir, store) = new_store();
    let ids = chain(&store);
    let before = state(&store, &ids[3]);
    let image = store.image(&ids[3]).unwrap();
    store.prune("job", 0).unwrap();
    assert_eq!(contents(&image, MM, 0..1 << 40), before.0);
    assert_eq!(image.records::<FsV1>().unwrap(), before.2);
}

#[test]
fn export_and_import_through_a_pipe() {
    let (_dir, store) = new_store();
    let (_other_dir, other) = new_store();
    let ids = chain(&store);
    for id in &ids {
        let (read, write) = std::io::pipe().unwrap();
        let imported = std::thread::scope(|s| {
            s.spawn(|| store.export(id, write).unwrap());
            other.import(read).unwrap()
        });
        assert_eq!(imported, *id);
        assert_eq!(state(&other, id), state(&store, id));
        let (a, b) = (store.manifest(id).unwrap(), other.manifest(id).unwrap());
        assert_eq!((b.kind, b.parent, b.job, b.stats), (Kind::Full, None, a.job, a.stats));
    }
    // Once more, where the id is taken.
    let mut stream = Vec::new();
    store.export(&ids[3], &mut stream).unwrap();
    let again = other.import(stream.as_slice()).unwrap();
    assert_ne!(again, ids[3]);
    assert_eq!(state(&other, &again), state(&store, &ids[3]));
    assert_tidy(&other);
    // On it goes there, incrementally.
    let next = save(&other, "job", Some(&ids[3]), |w| w.pages(MM, 0, &pages([1])).unwrap());
    assert_eq!(other.image(&next).unwrap().page(MM, 270).unwrap(), Some(page(3270)));
    other.remove(&ids[3]).unwrap();
    assert_eq!(other.image(&next).unwrap().page(MM, 270).unwrap(), Some(page(3270)));
}

#[test]
fn a_removed_checkpoint_comes_back_by_import() {
    let (_dir, store) = new_store();
    let ids = chain(&store);
    let before = states(&store, &ids);
    let mut stream = Vec::new();
    store.export(&ids[0], &mut stream).unwrap();
    store.remove(&ids[0]).unwrap();
    assert_eq!(store.import(stream.as_slice()).unwrap(), ids[0]);
    assert_eq!(states(&store, &ids), before);
    assert_tidy(&store);
}

#[test]
fn a_damaged_stream_is_refused_and_leaves_nothing() {
    let (_dir, store) = new_store();
    let id = save(&store, "job", None, |w| {
        w.pages(MM, 0, &pages([1, 2])).unwrap();
    });
    let mut stream = Vec::new();
    store.export(&id, &mut stream).unwrap();
    let (_other_dir, other) = new_store();
    for at in 0..stream.len() {
        let mut flipped = stream.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(other.import(flipped.as_slice()).is_err(), "byte {at} of {}", stream.len());
        assert!(matches!(other.import(&stream[..at]), Err(StoreError::Corrupt { .. })), "cut at {at}");
    }
    let mut longer = stream.clone();
    longer.push(0);
    assert!(other.import(longer.as_slice()).is_err());
    assert!(other.checkpoints(None).unwrap().is_empty());
    assert_tidy(&other);
    other.import(stream.as_slice()).unwrap();
}
