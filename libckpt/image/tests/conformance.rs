//! What every store back end has to do. Whoever adds one runs [`suite`] on it.
mod common;
use ckpt_image::page::Space;
use ckpt_image::{CheckpointId, Kind, Store, StoreError};
use common::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes an empty store, and something that takes it away when dropped.
type Factory = dyn Fn() -> (Box<dyn std::any::Any>, Store);

#[test]
fn a_directory() {
    suite(&|| {
        let (dir, store) = new_store();
        (Box::new(dir), store)
    });
}

fn suite(factory: &Factory) {
    nothing_before_the_commit(factory);
    ids_are_unique_and_sorted(factory);
    everyone_at_once(factory);
    // A failing one is run again with CKPT_SEED.
    let seeds = match std::env::var("CKPT_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
            vec![1, 2, 3, u64::try_from(clock & 0xffff_ffff).unwrap()]
        }
    };
    for seed in seeds {
        println!("CKPT_SEED={seed}");
        as_the_model_says(factory, seed);
    }
}

fn nothing_before_the_commit(factory: &Factory) {
    let (_guard, store) = factory();
    let mut writer = store.begin("job", None).unwrap();
    writer.record(&inventory("job")).unwrap();
    writer.pages(MM, 0, &pages(0..200)).unwrap();
    let id = writer.id().clone();
    assert!(store.checkpoints(None).unwrap().is_empty());
    assert!(matches!(store.image(&id), Err(StoreError::NoCheckpoint { .. })));
    assert!(store.verify(None).unwrap().is_good());
    // Nor does collecting garbage take a living writer's files.
    store.collect_garbage().unwrap();
    assert_eq!(writer.commit(Default::default()).unwrap(), id);
    assert_eq!(contents(&store.image(&id).unwrap(), MM, 0..300).len(), 200);
}

fn ids_are_unique_and_sorted(factory: &Factory) {
    let (_guard, store) = factory();
    let ids: BTreeSet<CheckpointId> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                s.spawn(|| {
                    let ids: Vec<_> = (0..10).map(|_| save(&store, "job", None, |_| {})).collect();
                    assert!(ids.is_sorted());
                    ids
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 40);
    let listed: Vec<CheckpointId> =
        store.checkpoints(Some("job")).unwrap().into_iter().map(|m| m.id).collect();
    assert_eq!(listed, ids.into_iter().collect::<Vec<_>>());
}

/// Writers of several jobs, one that merges and prunes, readers, a verifier: all at the same time.
fn everyone_at_once(factory: &Factory) {
    let (_guard, store) = factory();
    let done = AtomicBool::new(false);
    let jobs = ["a", "b", "c"];
    // Page 0 has the number of the checkpoint, page n what checkpoint n wrote.
    let check = |id: &CheckpointId| {
        let image = match store.image(id) {
            Err(StoreError::NoCheckpoint { .. }) => return,
            image => image.unwrap(),
        };
        let found = contents(&image, MM, 0..1000);
        let sequence = image.manifest().sequence;
        let wanted = (1..=sequence).map(|n| (n, n)).chain([(0, 100_000 + sequence)]);
        assert!(found == expect(wanted), "{id} {sequence}");
    };
    std::thread::scope(|s| {
        let writers: Vec<_> = jobs
            .iter()
            .map(|job| {
                let store = store.clone();
                s.spawn(move || {
                    let mut parent: Option<CheckpointId> = None;
                    for n in 1..=25 {
                        let id = save(&store, job, parent.as_ref(), |w| {
                            w.pages(MM, 0, &pages([100_000 + n])).unwrap();
                            w.pages(MM, n, &pages([n])).unwrap();
                        });
                        parent = Some(id);
                    }
                })
            })
            .collect();
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for job in jobs {
                    let all = store.checkpoints(Some(job)).unwrap();
                    if let Some(m) = all.get(all.len() / 2) {
                        match store.merge(&m.id) {
                            Err(StoreError::NoCheckpoint { .. }) => {}
                            merged => merged.unwrap(),
                        }
                    }
                    store.prune(job, 3).unwrap();
                }
            }
        });
        for _ in 0..2 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    store.checkpoints(None).unwrap().iter().for_each(|m| check(&m.id));
                }
            });
        }
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let report = store.verify(None).unwrap();
                assert!(report.is_good(), "{:?}", report.bad);
            }
        });
        writers.into_iter().for_each(|w| w.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    for job in jobs {
        let newest = store.latest(job).unwrap().unwrap();
        assert_eq!(newest.sequence, 25);
        check(&newest.id);
    }
    assert_tidy(&store);
}

type Pages = BTreeMap<(Space, u64), u64>;

/// Random operations; after each, every checkpoint reads as a map of pages says.
fn as_the_model_says(factory: &Factory, seed: u64) {
    let (_guard, store) = factory();
    let mut random = Random::new(seed);
    let mut model: BTreeMap<CheckpointId, Pages> = BTreeMap::new();
    let mut tag = 1;
    for step in 0..60 {
        let ids: Vec<CheckpointId> = model.keys().cloned().collect();
        let any =
            |r: &mut Random| ids.get(usize::try_from(r.below(ids.len().max(1) as u64)).unwrap()).cloned();
        match random.below(10) {
            0 => drop(any(&mut random).map(|id| store.merge(&id).unwrap())),
            1 | 2 if ids.len() > 2 => {
                let id = any(&mut random).unwrap();
                store.remove(&id).unwrap();
                model.remove(&id);
            }
            3 if step % 10 == 0 => {
                let keep = usize::try_from(random.below(4)).unwrap();
                for id in store.prune("job", keep).unwrap() {
                    model.remove(&id);
                }
            }
            4 => {
                if let Some(id) = any(&mut random) {
                    let mut stream = Vec::new();
                    store.export(&id, &mut stream).unwrap();
                    let copy = store.import(stream.as_slice()).unwrap();
                    model.insert(copy, model[&id].clone());
                }
            }
            _ => {
                let parent = any(&mut random).filter(|_| random.below(8) > 0);
                let (id, pages) = random_checkpoint(&store, &model, parent, &mut random, &mut tag);
                model.insert(id, pages);
            }
        }
        check_model(&store, &model, &format!("seed {seed} step {step}"));
    }
    assert_tidy(&store);
}

fn random_checkpoint(
    store: &Store,
    model: &BTreeMap<CheckpointId, Pages>,
    parent: Option<CheckpointId>,
    random: &mut Random,
    tag: &mut u64,
) -> (CheckpointId, Pages) {
    let mut wanted = parent.as_ref().map(|p| model[p].clone()).unwrap_or_default();
    let mut live: Option<BTreeSet<(Space, u64)>> = None;
    let id = save(store, "job", parent.as_ref(), |w| {
        for _ in 0..random.below(12) {
            let space = if random.below(3) == 0 { SHM } else { MM };
            let (first, count) = (random.below(300), 1 + random.below(90));
            let range = first..first + count;
            match random.below(8) {
                0 => {
                    w.absent(space, first, count).unwrap();
                    wanted.retain(|(s, n), _| *s != space || !range.contains(n));
                }
                1 => {
                    w.live(space, first, count).unwrap();
                    live.get_or_insert_default().extend(range.map(|n| (space, n)));
                }
                _ => {
                    let mut bytes = Vec::new();
                    for n in range {
                        if random.below(5) == 0 {
                            bytes.extend_from_slice(&[0; 4096]);
                            wanted.remove(&(space, n));
                        } else {
                            *tag += 1;
                            bytes.extend_from_slice(&page(*tag));
                            wanted.insert((space, n), *tag);
                        }
                    }
                    w.pages(space, first, &bytes).unwrap();
                }
            }
        }
    });
    wanted.retain(|page, _| live.as_ref().is_none_or(|l| l.contains(page)));
    (id, wanted)
}

fn check_model(store: &Store, model: &BTreeMap<CheckpointId, Pages>, what: &str) {
    let listed: Vec<CheckpointId> = store.checkpoints(None).unwrap().into_iter().map(|m| m.id).collect();
    assert!(listed.iter().eq(model.keys()), "{what}");
    for (id, wanted) in model {
        let image = store.image(id).unwrap();
        for space in [MM, SHM] {
            let of_space = wanted.iter().filter(|((s, _), _)| *s == space);
            let expected = expect(of_space.map(|((_, n), tag)| (*n, *tag)));
            assert!(contents(&image, space, 0..1000) == expected, "{what}: {id}");
            let runs = image.runs(space, 0..1000);
            assert_eq!(runs.iter().map(|r| r.count).sum::<u64>(), 1000, "{what}");
            let present =
                runs.iter().filter(|r| r.present).flat_map(|r| r.first_page..r.first_page + r.count);
            assert!(present.eq(expected.keys().copied()), "{what}: {id} {runs:?}");
            assert_eq!(image.page_count(space), expected.len() as u64);
        }
        let kind = if image.chain().len() == 1 { Kind::Full } else { Kind::Incremental };
        assert_eq!(image.manifest().kind, kind);
    }
}
