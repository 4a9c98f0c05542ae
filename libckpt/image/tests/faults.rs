//! Writers killed, and system calls failing, at every step: the store shows the state before or the state after, and
//! the next writer clears up.
mod common;
use ckpt_image::{CheckpointId, Store, StoreError};
use common::*;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

/// The steps of each operation, as `ckpt_image::fault` names them. Each has a second point, `.after`, behind it.
const COMMIT: &[&str] = &[
    "pack.header",
    "pack.write",
    "pack.table",
    "pack.fsync",
    "records.write",
    "records.fsync",
    "pages.write",
    "pages.fsync",
    "manifest.write",
    "manifest.fsync",
    "data.rename",
    "data.fsync",
    "rename",
    "fsync",
];
const MERGE: &[&str] = &[
    "pages.write",
    "pages.fsync",
    "manifest.write",
    "manifest.fsync",
    "data.rename",
    "data.fsync",
    "rename",
    "fsync",
];
const REMOVE: &[&str] = &["unlink", "fsync"];
const COMPACT: &[&str] = &[
    "pack.header",
    "pack.write",
    "pack.table",
    "pack.fsync",
    "data.rename",
    "data.fsync",
    "pages.write",
    "pages.fsync",
    "manifest.write",
    "manifest.fsync",
    "rename",
    "fsync",
];

/// What the operations are tried on: a chain of three of which the newest overrides most of the oldest.
fn chain(store: &Store) -> Vec<CheckpointId> {
    let a = save(store, "job", None, |w| w.pages(MM, 0, &pages(0..100)).unwrap());
    let b = save(store, "job", Some(&a), |w| w.pages(MM, 5, &pages(1005..1065)).unwrap());
    let c = save(store, "job", Some(&b), |w| {
        w.absent(MM, 90, 5).unwrap();
        w.pages(MM, 50, &pages(2050..2060)).unwrap();
    });
    vec![a, b, c]
}

fn fill_next(w: &mut ckpt_image::CheckpointWriter) {
    w.pages(MM, 0, &pages([7])).unwrap_or_default();
    w.pages(MM, 200, &noise(3)).unwrap_or_default();
}

/// Runs in a process of its own with `CKPT_FAULT`: one operation on the store that `CKPT_TEST_STORE` names. Prints what the
/// operation says.
#[test]
#[ignore = "a part of the other tests"]
fn child() {
    let store = Store::open(std::env::var("CKPT_TEST_STORE").unwrap()).unwrap();
    let newest = store.latest("job").unwrap().unwrap().id;
    let outcome = match std::env::var("CKPT_TEST_OPERATION").unwrap().as_str() {
        "commit" => try_save(&store, "job", Some(&newest), fill_next).map(|_| ()),
        "merge" => store.merge(&newest),
        "remove" => store.remove(&store.checkpoints(None).unwrap()[0].id),
        "prune" => store.prune("job", 1).map(|_| ()),
        "import" => {
            let stream = std::fs::read(std::env::var("CKPT_TEST_STREAM").unwrap()).unwrap();
            store.import(stream.as_slice()).map(|_| ())
        }
        other => panic!("{other}"),
    };
    match outcome {
        Ok(()) => println!("OUTCOME done"),
        Err(e @ StoreError::DiskFull { .. }) => println!("OUTCOME disk full: {e}"),
        Err(e) => println!("OUTCOME other: {e}"),
    }
}

fn run_child(store: &Path, operation: &str, fault: &str, stream: &Path) -> (Option<i32>, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("CKPT_TEST_STORE", store)
        .env("CKPT_TEST_OPERATION", operation)
        .env("CKPT_TEST_STREAM", stream)
        .env("CKPT_FAULT", fault)
        .output()
        .unwrap();
    (output.status.signal(), String::from_utf8_lossy(&output.stdout).into_owned())
}

type States = BTreeMap<CheckpointId, BTreeMap<u64, Vec<u8>>>;

fn states(store: &Store) -> States {
    let manifests = store.checkpoints(None).unwrap();
    manifests
        .into_iter()
        .map(|m| (m.id.clone(), contents(&store.image(&m.id).unwrap(), MM, 0..999)))
        .collect()
}

fn copy_store(from: &Path, to: &Path) {
    for directory in ["", "manifests", "data", "tmp"] {
        std::fs::create_dir(to.join(directory)).unwrap();
    }
    for file in files(from) {
        std::fs::copy(&file, to.join(file.strip_prefix(from).unwrap())).unwrap();
    }
}

/// Tries every step of `points` with `operation` on a copy of the store.
fn at_every_step(operation: &str, prefix: &str, points: &[&str]) {
    let (dir, store) = new_store();
    let ids = chain(&store);
    let stream = dir.path().join("stream");
    store.export(&ids[1], std::fs::File::create(&stream).unwrap()).unwrap();
    if operation == "import" {
        store.remove(&ids[1]).unwrap();
    }
    let before = states(&store);
    let mut after = before.clone();
    match operation {
        "commit" => {
            let mut next = before[&ids[2]].clone();
            next.insert(0, page(7));
            next.insert(200, noise(3));
            after.insert("zzzzzzzzzzzz".parse().unwrap(), next);
        }
        "remove" => drop(after.remove(&ids[0])),
        "prune" => after.retain(|id, _| *id == ids[2]),
        "import" => drop(after.insert(ids[1].clone(), {
            let (_dir, other) = new_store();
            other.import(std::fs::read(&stream).unwrap().as_slice()).unwrap();
            states(&other).remove(&ids[1]).unwrap()
        })),
        _ => {}
    }
    for (n, point) in points.iter().flat_map(|p| [p.to_string(), format!("{p}.after")]).enumerate() {
        for action in ["kill", "error=ENOSPC"] {
            let what = format!("{operation}: {prefix}.{point}:{action}");
            let path = dir.path().join(format!("{n}-{action}"));
            copy_store(store.path(), &path);
            let (signal, said) = run_child(&path, operation, &format!("{prefix}.{point}:{action}"), &stream);
            let store = Store::open(&path).unwrap();
            let report = store.verify(None).unwrap();
            assert!(report.is_good(), "{what}: {:?}", report.bad);
            let found = states(&store);
            // Whatever is shown is right.
            for (id, contents) in &found {
                let known = after.get(id).or(before.get(id)).or(after.values().next_back());
                assert!(Some(contents) == known, "{what}: contents of {id}");
            }
            if action == "kill" {
                assert_eq!(signal, Some(9), "{what}: {said}");
                // All of the old or all of the new; a prune may have done some of its removals.
                let unharmed =
                    before.keys().filter(|id| after.contains_key(id)).all(|id| found.contains_key(id));
                assert!(unharmed, "{what}: {:?}", found.keys());
                let kept = (found.len(), before.len().min(after.len()), before.len().max(after.len()));
                assert!((kept.1..=kept.2).contains(&kept.0), "{what}: {kept:?}");
            } else {
                // Compaction is a courtesy: what it comes after is done.
                let outcome = if prefix == "compact" { "OUTCOME done" } else { "OUTCOME disk full" };
                assert!(said.contains(outcome), "{what}: {said}");
                if ["commit", "import"].contains(&operation) {
                    assert!(found == before, "{what}: a failed commit must leave nothing");
                    assert_eq!(std::fs::read_dir(path.join("tmp")).unwrap().count(), 0, "{what}");
                }
            }
            // The next writer clears up, and the operation then works.
            drop(store.begin("job", None).unwrap());
            assert_tidy(&store);
            assert!(states(&store) == found, "{what}: clearing up");
            if operation != "commit" && found != after {
                let (_, said) = run_child(&path, operation, "", &stream);
                assert!(said.contains("OUTCOME done"), "{what}: again: {said}");
            }
            assert_tidy(&store);
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}

#[test]
fn commit() {
    at_every_step("commit", "commit", COMMIT);
}

#[test]
fn merge() {
    at_every_step("merge", "merge", MERGE);
}

#[test]
fn remove_into_a_child() {
    at_every_step("remove", "merge", MERGE);
}

#[test]
fn remove() {
    at_every_step("remove", "remove", REMOVE);
}

#[test]
fn prune() {
    at_every_step("prune", "remove", REMOVE);
}

#[test]
fn compaction() {
    at_every_step("prune", "compact", COMPACT);
}

#[test]
fn import() {
    at_every_step("import", "import", COMMIT);
}

#[test]
fn a_step_that_fails_later_fails_as_well() {
    let (dir, store) = new_store();
    chain(&store);
    for skip in 1..3 {
        let fault = format!("commit.data.rename:kill:skip={skip}");
        let (signal, said) = run_child(store.path(), "commit", &fault, dir.path());
        assert_eq!(signal, Some(9), "{said}");
        assert!(store.verify(None).unwrap().is_good());
        drop(store.begin("job", None).unwrap());
        assert_tidy(&store);
    }
}
