//! With little effort pages are stored as they come, and checkpoints of both kinds go together in a chain.
mod common;
use ckpt_image::{ChainLimits, CheckpointId, Effort, Options, Retention, Store};
use common::*;

fn written(store: &Store, id: &CheckpointId) -> u64 {
    store.manifest(id).unwrap().stats.bytes_written
}

fn noises(seeds: std::ops::Range<u64>) -> Vec<u8> {
    seeds.flat_map(noise).collect()
}

#[test]
fn light_and_full_checkpoints_are_of_one_chain() {
    let (_dir, store) = new_store();
    let mut options = Options::default();
    options.effort = Effort::Light;
    let light = store.clone().with_options(options);
    let full = &store;
    let mut pages: Vec<u64> = (0..200).collect();
    let mut last = save(full, "job", None, |w| w.pages(MM, 0, &noises(0..200)).unwrap());
    let mut sizes = Vec::new();
    let mut ids = vec![(last.clone(), pages.clone())];
    for (round, store) in [&light, full, &light, &light, full, full].into_iter().enumerate() {
        // A page as it was, one that is elsewhere, and two that are new.
        let first = 10 * round;
        let new = 1000 + round as u64;
        let seeds = [pages[first], pages[150], new, new];
        last = save(store, "job", Some(&last), |w| {
            w.pages(MM, first as u64, &seeds.map(noise).concat()).unwrap();
        });
        pages[first..first + 4].copy_from_slice(&seeds);
        ids.push((last.clone(), pages.clone()));
        sizes.push(written(store, &last) / 4096);
    }
    // Light, all four are stored, and little is spent on what is in them twice.
    let light: Vec<bool> = sizes.iter().map(|pages| *pages >= 3).collect();
    assert_eq!(light, [true, false, true, true, false, false], "{sizes:?}");
    assert!(sizes.iter().all(|pages| *pages <= 4), "{sizes:?}");
    let must_be = |(id, pages): &(CheckpointId, Vec<u64>)| {
        let model = (0..).zip(pages.iter().map(|seed| noise(*seed))).collect();
        assert!(contents(&store.image(id).unwrap(), MM, 0..1 << 40) == model, "{id}");
    };
    ids.iter().for_each(must_be);
    assert!(store.verify(None).unwrap().bad.is_empty());
    store.merge(&last).unwrap();
    ids.iter().for_each(must_be);
    let keep = Retention::default();
    store.maintain("job", &keep, &ChainLimits::default()).unwrap();
    must_be(ids.last().unwrap());
}
