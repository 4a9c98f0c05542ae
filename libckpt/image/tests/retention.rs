//! Old checkpoints go as the user asked, chains stay short, and space comes back.
mod common;
use ckpt_image::{ChainLimits, CheckpointId, Kind, Retention, Store};
use common::*;
use std::time::Duration;

/// A chain of checkpoints each of which overwrites ten pages.
fn chain(store: &Store, length: u64) -> Vec<CheckpointId> {
    let mut ids = Vec::<CheckpointId>::new();
    for n in 0..length {
        let id = save(store, "job", ids.last(), |w| {
            if n == 0 {
                w.pages(MM, 0, &(0..50).flat_map(noise).collect::<Vec<_>>()).unwrap();
            } else {
                w.pages(MM, 0, &(0..10).flat_map(|p| noise(100 * n + p)).collect::<Vec<_>>()).unwrap();
            }
        });
        ids.push(id);
    }
    ids
}

fn ids(store: &Store) -> Vec<CheckpointId> {
    store.checkpoints(Some("job")).unwrap().into_iter().map(|m| m.id).collect()
}

fn size(store: &Store) -> u64 {
    files(store.path()).iter().map(|f| f.metadata().unwrap().len()).sum()
}

#[test]
fn by_count_and_by_age() {
    let (_dir, store) = new_store();
    let all = chain(&store, 6);
    let newest = contents(&store.image(&all[5]).unwrap(), MM, 0..99);
    let rule = |newest, younger| Retention { newest, younger };
    let hour = Some(Duration::from_secs(3600));
    // Without a rule, and with one that is for all.
    assert!(store.retain("job", &rule(None, None)).unwrap().is_empty());
    assert!(store.retain("job", &rule(Some(1), hour)).unwrap().is_empty());
    assert_eq!(store.retain("job", &rule(Some(4), None)).unwrap(), all[..2]);
    assert_eq!(ids(&store), all[2..]);
    // The newest is kept by whatever rule.
    assert_eq!(store.retain("job", &rule(None, Some(Duration::ZERO))).unwrap(), all[2..5]);
    assert_eq!(ids(&store), all[5..]);
    assert!(store.retain("job", &rule(Some(0), None)).unwrap().is_empty());
    assert_eq!(contents(&store.image(&all[5]).unwrap(), MM, 0..99), newest);
    assert_tidy(&store);
}

#[test]
fn space_comes_back() {
    let (_dir, store) = new_store();
    chain(&store, 8);
    let before = size(&store);
    store.prune("job", 1).unwrap();
    // 50 pages of 120.
    assert!(size(&store) < before * 6 / 10, "{} of {before}", size(&store));
    assert_tidy(&store);
}

#[test]
fn long_chains_are_merged() {
    let (_dir, store) = new_store();
    let all = chain(&store, 5);
    let keep = Retention::default();
    let kind = |id: &CheckpointId| store.manifest(id).unwrap().kind;
    let mut limits = ChainLimits::default();
    limits.length = 5;
    assert!(store.maintain("job", &keep, &limits).unwrap().merged.is_none());
    limits.length = 4;
    assert_eq!(store.maintain("job", &keep, &limits).unwrap().merged.as_ref(), all.last());
    assert_eq!(kind(&all[4]), Kind::Full);
    assert!(all[1..4].iter().all(|id| kind(id) == Kind::Incremental));
    // It is short now.
    assert!(store.maintain("job", &keep, &limits).unwrap().merged.is_none());
    assert_tidy(&store);
}

#[test]
fn chains_of_many_bytes_or_slow_to_restore_are_merged() {
    for by_bytes in [true, false] {
        let (_dir, store) = new_store();
        let all = chain(&store, 5);
        let mut limits = ChainLimits::default();
        assert!(store.maintain("job", &Retention::default(), &limits).unwrap().merged.is_none());
        if by_bytes {
            // The full one has 50 pages, the others 40.
            limits.bytes = 0;
            assert!(store.maintain("job", &Retention::default(), &limits).unwrap().merged.is_none());
            let last = save(&store, "job", all.last(), |w| {
                w.pages(MM, 0, &(0..20).flat_map(|p| noise(9000 + p)).collect::<Vec<_>>()).unwrap();
            });
            assert_eq!(store.maintain("job", &Retention::default(), &limits).unwrap().merged, Some(last));
        } else {
            limits.restore = Duration::from_micros(1);
            let merged = store.maintain("job", &Retention::default(), &limits).unwrap().merged;
            assert_eq!(merged.as_ref(), all.last());
        }
        assert_tidy(&store);
    }
}

#[test]
fn a_checkpoint_that_is_being_built_upon_stays() {
    let (_dir, store) = new_store();
    let all = chain(&store, 3);
    let writer = store.begin("job", Some(&all[1])).unwrap();
    assert_eq!(store.prune("job", 1).unwrap(), all[..1]);
    drop(writer);
    assert_eq!(store.prune("job", 1).unwrap(), all[1..2]);
    assert_tidy(&store);
}
