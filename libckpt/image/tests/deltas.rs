//! What changed is stored, and what is stored already is not stored again.
mod common;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::MmId;
use ckpt_image::{CheckpointId, CheckpointWriter, Options, Store};
use common::*;
use std::collections::BTreeMap;

const OTHER: Space = Space::Private(MmId(2));
/// Bytes that a checkpoint has besides its pages, at most.
const OVERHEAD: u64 = 4096;

fn written(store: &Store, id: &CheckpointId) -> u64 {
    store.manifest(id).unwrap().stats.bytes_written
}

fn changed(seed: u64, times: u64) -> Vec<u8> {
    let mut page = noise(seed);
    (0..times).for_each(|n| page[8 * usize::try_from(n).unwrap() + 100] ^= 0x55);
    page
}

fn noises(seeds: std::ops::Range<u64>) -> Vec<u8> {
    seeds.flat_map(noise).collect()
}

type Model = BTreeMap<u64, Vec<u8>>;

fn put(w: &mut CheckpointWriter, model: &mut Model, page: u64, bytes: Vec<u8>) {
    w.pages(MM, page, &bytes).unwrap();
    model.insert(page, bytes);
}

fn assert_is(store: &Store, id: &CheckpointId, model: &Model) {
    assert!(contents(&store.image(id).unwrap(), MM, 0..1 << 40) == *model, "{id}");
}

#[test]
fn pages_that_were_rewritten_as_they_were_cost_nothing() {
    let (_dir, store) = new_store();
    let a = save(&store, "job", None, |w| w.pages(MM, 0, &noises(0..500)).unwrap());
    let b = save(&store, "job", Some(&a), |w| w.pages(MM, 100, &noises(100..400)).unwrap());
    assert!(written(&store, &b) < OVERHEAD, "{}", written(&store, &b));
    assert!(!store.manifest(&b).unwrap().files.iter().any(|f| f.name.ends_with(".pack")));
    let model: Model = (0..500).map(|n| (n, noise(n))).collect();
    assert_is(&store, &b, &model);
    // Also when what was saved before the pause was something else.
    let c = save(&store, "job", Some(&b), |w| {
        w.pages(MM, 7, &noise(9999)).unwrap();
        w.pages(MM, 7, &noise(7)).unwrap();
    });
    assert_is(&store, &c, &model);
}

#[test]
fn equal_pages_are_stored_once_in_a_process_across_the_tree_and_along_the_chain() {
    let (_dir, store) = new_store();
    let first = noises(0..100);
    let a = save(&store, "job", None, |w| {
        w.pages(MM, 0, &first).unwrap();
        w.pages(MM, 1000, &first).unwrap();
        w.pages(OTHER, 50, &first).unwrap();
        w.pages(SHM, 0, &first).unwrap();
    });
    assert!(written(&store, &a) < 110 * PAGE_SIZE as u64, "{}", written(&store, &a));
    let b = save(&store, "job", Some(&a), |w| w.pages(MM, 0, &noises(100..200)).unwrap());
    let c = save(&store, "job", Some(&b), |w| {
        w.pages(MM, 5000, &noises(100..150)).unwrap();
        w.pages(OTHER, 7000, &noises(0..50)).unwrap();
    });
    assert!(written(&store, &c) < OVERHEAD, "{}", written(&store, &c));
    let image = store.image(&c).unwrap();
    let expected =
        |from: u64, seeds: std::ops::Range<u64>| -> Model { (from..).zip(seeds.map(noise)).collect() };
    let mut private = expected(0, 100..200);
    private.extend(expected(1000, 0..100));
    private.extend(expected(5000, 100..150));
    assert!(contents(&image, MM, 0..1 << 40) == private);
    let mut other = expected(50, 0..100);
    other.extend(expected(7000, 0..50));
    assert!(contents(&image, OTHER, 0..1 << 40) == other);
    assert!(contents(&image, SHM, 0..1 << 40) == expected(0, 0..100));
}

#[test]
fn little_changes_are_stored_as_such_and_never_on_top_of_each_other() {
    let (_dir, store) = new_store();
    let mut model: Model = (0..256).map(|n| (n, noise(n))).collect();
    let mut last = save(&store, "job", None, |w| w.pages(MM, 0, &noises(0..256)).unwrap());
    let mut states = vec![(last.clone(), model.clone())];
    for times in 1..8 {
        last = save(&store, "job", Some(&last), |w| {
            for page in (0..256).step_by(2) {
                put(w, &mut model, page, changed(page, times));
            }
        });
        let bytes = written(&store, &last);
        assert!(bytes < 128 * 160 + OVERHEAD, "{bytes} bytes for {times} changes in each of 128 pages");
        states.push((last.clone(), model.clone()));
    }
    // Back to what the first one has, by way of a delta.
    last = save(&store, "job", Some(&last), |w| put(w, &mut model, 0, noise(0)));
    states.push((last, model));
    states.iter().for_each(|(id, model)| assert_is(&store, id, model));
    assert!(store.verify(None).unwrap().is_good());
    // A merge of the newest, then of one in the middle, then all but those two go.
    for at in [8, 3] {
        store.merge(&states[at].0).unwrap();
        states.iter().for_each(|(id, model)| assert_is(&store, id, model));
    }
    for at in [0, 1, 2, 4, 5, 6, 7] {
        store.remove(&states[at].0).unwrap();
    }
    assert_tidy(&store);
    let mut stream = Vec::new();
    store.export(&states[8].0, &mut stream).unwrap();
    let (_other, other) = new_store();
    let imported = other.import(&stream[..]).unwrap();
    for (store, id, model) in [
        (&store, &states[3].0, &states[3].1),
        (&store, &states[8].0, &states[8].1),
        (&other, &imported, &states[8].1),
    ] {
        assert_is(store, id, model);
    }
    assert_tidy(&other);
}

#[test]
fn memory_and_reading_are_bounded() {
    let (_dir, store) = new_store();
    let mut options = Options::default();
    (options.delta_bytes, options.table_bytes) = (0, 0);
    let plain = store.clone().with_options(options);
    let a = save(&store, "job", None, |w| w.pages(MM, 0, &noises(0..64)).unwrap());
    let fill = |w: &mut CheckpointWriter| {
        (0..32).for_each(|n| w.pages(MM, n, &changed(n, 3)).unwrap());
        w.pages(MM, 100, &noises(40..50)).unwrap();
    };
    let (b, c) = (save(&plain, "job", Some(&a), fill), save(&store, "job", Some(&a), fill));
    assert!(written(&store, &b) > 42 * PAGE_SIZE as u64);
    assert!(written(&store, &c) < 2 * OVERHEAD + 32 * 64);
    let read = |id| contents(&store.image(id).unwrap(), MM, 0..1000);
    assert!(read(&b) == read(&c));
}

#[test]
fn packs_that_a_merge_takes_away_meanwhile_are_there_in_the_end() {
    let (_dir, store) = new_store();
    let a = save(&store, "job", None, |w| w.pages(MM, 0, &noises(0..200)).unwrap());
    // Most of the first pack is garbage for the second checkpoint.
    let b = save(&store, "job", Some(&a), |w| w.pages(MM, 0, &noises(1000..1190)).unwrap());
    let mut model: Model = (190..200).map(|n| (n, noise(n))).collect();
    model.extend((0..190).map(|n| (n, noise(n + 1000))));
    let mut writer = store.begin("job", Some(&b)).unwrap();
    writer.record(&inventory("job")).unwrap();
    put(&mut writer, &mut model, 195, changed(195, 2));
    put(&mut writer, &mut model, 300, noise(199));
    store.remove(&a).unwrap();
    let packs = |id: &CheckpointId| {
        let files = store.manifest(id).unwrap().files;
        files.into_iter().map(|f| f.name).filter(|n| n.ends_with(".pack")).collect::<Vec<_>>()
    };
    assert!(!packs(&b).iter().any(|name| name.starts_with(a.as_str())), "the first pack was compacted");
    let c = writer.commit(ckpt_image::Stats::default()).unwrap();
    assert!(packs(&c).iter().any(|name| name.starts_with(a.as_str())), "and is needed after all");
    assert_is(&store, &c, &model);
    assert_tidy(&store);
    store.compact("job").unwrap();
    assert_is(&store, &c, &model);
    assert_tidy(&store);
}

#[test]
fn chains_of_all_kinds_of_changes_hold_what_was_written() {
    let mut random = Random::new(4);
    for _ in 0..6 {
        let (_dir, store) = new_store();
        let (mut model, mut last, mut states) = (Model::new(), None::<CheckpointId>, Vec::new());
        for _ in 0..10 {
            let id = save(&store, "job", last.as_ref(), |w| {
                for _ in 0..random.below(150) {
                    let page = random.below(200);
                    let bytes = match random.below(5) {
                        0 => noise(random.below(40)),
                        1 => vec![0; PAGE_SIZE],
                        2 => model.values().next().cloned().unwrap_or_else(|| noise(1)),
                        _ => {
                            let mut bytes = model.get(&page).cloned().unwrap_or_else(|| noise(page));
                            bytes[usize::try_from(random.below(4096)).unwrap()] ^= 1;
                            bytes
                        }
                    };
                    put(w, &mut model, page, bytes);
                }
            });
            model.retain(|_, bytes| bytes.iter().any(|b| *b != 0));
            states.push((id.clone(), model.clone()));
            last = Some(id);
            if random.below(4) == 0 {
                let at = usize::try_from(random.below(states.len() as u64)).unwrap();
                store.merge(&states[at].0).unwrap();
            }
            if random.below(3) == 0 && states.len() > 1 {
                let at = usize::try_from(random.below(states.len() as u64 - 1)).unwrap();
                store.remove(&states.remove(at).0).unwrap();
            }
            states.iter().for_each(|(id, model)| assert_is(&store, id, model));
        }
        assert_tidy(&store);
    }
}
