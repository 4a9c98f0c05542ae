//! Pages that are the same as others are stored once, and stay what they are whatever becomes of the chain.
mod common;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::MmId;
use ckpt_image::{CheckpointId, Store};
use common::*;
use std::collections::BTreeMap;

const CHILD: Space = Space::Private(MmId(2));
const GRANDCHILD: Space = Space::Private(MmId(3));

/// A parent; then a child that shares what the parent had, and of which it changed a little; then a grandchild.
fn family(store: &Store) -> Vec<CheckpointId> {
    let a = save(store, "job", None, |w| {
        w.live(MM, 0, 200).unwrap();
        w.pages(MM, 0, &(0..200).flat_map(noise).collect::<Vec<_>>()).unwrap();
        w.absent(MM, 150, 5).unwrap();
    });
    let b = save(store, "job", Some(&a), |w| {
        w.live(MM, 0, 200).unwrap();
        w.live(CHILD, 0, 200).unwrap();
        w.pages(MM, 20, &pages(1020..1030)).unwrap();
        // Of pages that are overridden.
        w.pages(CHILD, 0, &pages(5000..5002)).unwrap();
        w.same(CHILD, 0, 190, MM, 0).unwrap();
        w.pages(CHILD, 190, &pages(2190..2195)).unwrap();
        w.absent(CHILD, 195, 5).unwrap();
    });
    let c = save(store, "job", Some(&b), |w| {
        for space in [MM, CHILD, GRANDCHILD] {
            w.live(space, 0, 200).unwrap();
        }
        w.pages(MM, 0, &pages(3000..3010)).unwrap();
        w.pages(CHILD, 5, &pages(4005..4006)).unwrap();
        w.absent(GRANDCHILD, 0, 200).unwrap();
        w.same(GRANDCHILD, 100, 100, CHILD, 0).unwrap();
    });
    vec![a, b, c]
}

type Contents = [BTreeMap<u64, Vec<u8>>; 3];

fn state(store: &Store, id: &CheckpointId) -> Contents {
    let image = store.image(id).unwrap();
    [MM, CHILD, GRANDCHILD].map(|space| contents(&image, space, 0..1 << 40))
}

fn states(store: &Store, ids: &[CheckpointId]) -> Vec<Contents> {
    ids.iter().map(|id| state(store, id)).collect()
}

#[test]
fn they_hold_what_the_others_hold() {
    let (_dir, store) = new_store();
    let ids = family(&store);
    let [_, b, c] = &states(&store, &ids)[..] else { panic!("three") };
    let mut child: BTreeMap<u64, Vec<u8>> =
        (0..190).filter(|n| !(150..155).contains(n)).map(|n| (n, noise(n))).collect();
    child.extend(expect((20..30).map(|n| (n, 1000 + n))));
    child.extend(expect((190..195).map(|n| (n, 2000 + n))));
    assert_eq!(b[1], child);
    child.extend(expect([(5, 4005)]));
    assert_eq!(c[1], child);
    assert_eq!(c[2], child.range(..100).map(|(n, page)| (n + 100, page.clone())).collect());
    assert_eq!(c[0].range(..10).map(|(n, _)| *n).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    let report = store.verify(None).unwrap();
    assert!(report.is_good(), "{:?}", report.bad);
}

#[test]
fn they_are_stored_once() {
    let (_dir, store) = new_store();
    let ids = family(&store);
    let written = |id| store.manifest(id).unwrap().stats.bytes_written;
    assert!(written(&ids[0]) > 195 * PAGE_SIZE as u64);
    assert!(written(&ids[1]) < 20 * PAGE_SIZE as u64, "{}", written(&ids[1]));
    assert!(written(&ids[2]) < 20 * PAGE_SIZE as u64, "{}", written(&ids[2]));
    let image = store.image(&ids[1]).unwrap();
    let runs = image.compare(CHILD, MM, 0..210);
    assert_eq!(runs.iter().map(|run| run.count).sum::<u64>(), 210);
    let differ: Vec<_> = runs
        .iter()
        .filter(|run| !run.same)
        .map(|run| (run.first_page, run.present, run.other_present))
        .collect();
    assert_eq!(differ, [(190, true, true), (195, false, true)]);
}

#[test]
fn they_outlive_the_checkpoints_that_they_came_from() {
    for remove in [[0, 1], [1, 0]] {
        let (_dir, store) = new_store();
        let ids = family(&store);
        let before = states(&store, &ids);
        remove.iter().for_each(|n| store.remove(&ids[*n]).unwrap());
        assert_eq!(state(&store, &ids[2]), before[2]);
        store.merge(&ids[2]).unwrap();
        store.compact("job").unwrap();
        assert_eq!(state(&store, &ids[2]), before[2]);
        assert_tidy(&store);
        let report = store.verify(None).unwrap();
        assert!(report.is_good(), "{:?}", report.bad);
    }
}

#[test]
fn a_stream_has_them_once() {
    let (_dir, store) = new_store();
    let ids = family(&store);
    let before = states(&store, &ids);
    let mut stream = Vec::new();
    store.export(&ids[2], &mut stream).unwrap();
    assert!(stream.len() < 260 * PAGE_SIZE, "{} bytes", stream.len());
    let (_other, other) = new_store();
    let id = other.import(&stream[..]).unwrap();
    assert_eq!(state(&other, &id), before[2]);
    assert!(other.verify(None).unwrap().is_good());
}

#[test]
fn a_merge_of_the_parent_meanwhile_does_no_harm() {
    let (_dir, store) = new_store();
    let ids = family(&store);
    let before = states(&store, &ids);
    let mut writer = store.begin("job", Some(&ids[2])).unwrap();
    writer.record(&inventory("job")).unwrap();
    writer.same(Space::Private(MmId(9)), 0, 200, MM, 0).unwrap();
    store.merge(&ids[2]).unwrap();
    store.compact("job").unwrap();
    let id = writer.commit(ckpt_image::Stats::default()).unwrap();
    let image = store.image(&id).unwrap();
    assert_eq!(contents(&image, Space::Private(MmId(9)), 0..300), before[2][0]);
    assert!(store.verify(None).unwrap().is_good());
}
