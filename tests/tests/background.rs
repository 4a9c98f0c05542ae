//! What the daemon does in the background: old checkpoints go, chains stay short. It may be killed at any point, and no disk may be too full or too
//! slow for it: the program runs on, and whatever was reported as saved restores.
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use nix::mount::{MsFlags, mount};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The job's checkpoints, oldest first: id and kind.
fn checkpoints(sandbox: &Sandbox) -> Vec<(String, String)> {
    let listed: Value = sandbox.ckpt(["list", "job", "--json"]).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = listed["checkpoints"].as_array().cloned().unwrap_or_default();
    all.iter().map(|c| (text(&c["id"]), text(&c["kind"]))).collect()
}

fn ids(sandbox: &Sandbox) -> Vec<String> {
    checkpoints(sandbox).into_iter().map(|(id, _)| id).collect()
}

fn attach(sandbox: &Sandbox, subject: &Subject, options: &[&str]) {
    let pid = subject.pid().to_string();
    sandbox.ckpt([&["attach", &pid, "--name", "job"], options].concat()).done();
}

/// Has the subject write to a part of its memory for the `n`th time.
fn dirty(subject: &Subject, n: u32) {
    subject.tell(&format!("dirty-{n}"));
    subject.wait_for(&format!("dirtied-{n}"));
}

/// The subject, which has written `rounds` times, ends well, and so does each of these checkpoints, which were taken after so many rounds.
#[track_caller]
fn must_be_well(sandbox: &Sandbox, mut subject: Subject, rounds: u32, saved: &[(&String, u32)]) {
    subject.verdict_must_be(&format!("round {rounds}"));
    assert!(subject.process.wait().success());
    (1..=rounds).for_each(|n| subject.forget(&format!("dirty-{n}")));
    subject.must_come_back(sandbox, saved.iter().map(|(id, round)| (id, format!("round {round}"))));
}

#[test]
fn as_many_are_kept_as_was_asked_for() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "dirty", &["4"]);
        attach(sandbox, &subject, &["--keep", "2"]);
        let mut saved = Vec::new();
        for round in 1..=5 {
            dirty(&subject, round);
            saved.push(sandbox.save("job"));
        }
        until("old checkpoints go", || (ids(sandbox) == saved[3..]).then_some(()));
        // A daemon that takes the job over keeps as many.
        sandbox.kill_daemon();
        for round in 6..=7 {
            dirty(&subject, round);
            saved.push(sandbox.save("job"));
        }
        until("old checkpoints go", || (ids(sandbox) == saved[5..]).then_some(()));
        sandbox.ckpt(["prune", "job"]).refused(2, &["--keep"]);
        let pruned = sandbox.ckpt(["prune", "job", "--keep", "1", "--keep-for", "1h"]).done();
        assert!(pruned.is_empty(), "{pruned}");
        let pruned = sandbox.ckpt(["prune", "job", "--keep-for", "0s"]).done();
        assert_eq!(pruned, saved[5]);
        sandbox.ckpt(["verify"]).done();
        must_be_well(sandbox, subject, 7, &[(&saved[6], 7)]);
    });
}

#[test]
fn a_long_chain_is_merged_and_goes_on() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "dirty", &["4"]);
        attach(sandbox, &subject, &[]);
        let mut saved = Vec::new();
        for round in 1..=17 {
            dirty(&subject, round);
            saved.push(sandbox.save("job"));
        }
        until("the chain is merged", || {
            let all = checkpoints(sandbox);
            assert_eq!(all.len(), 17, "{all:?}");
            all[1..].iter().any(|(_, kind)| kind == "full").then_some(())
        });
        dirty(&subject, 18);
        let next = sandbox.save_with("job", &[]);
        assert_eq!(next["kind"], "incremental", "{next}");
        saved.push(ckpt_tests::sandbox::id(&next));
        sandbox.ckpt(["verify"]).done();
        must_be_well(
            sandbox,
            subject,
            18,
            &[(&saved[0], 1), (&saved[8], 9), (&saved[16], 17), (&saved[17], 18)],
        );
    });
}

/// Every write, fsync and rename of a merge, of a removal and of a compaction.
const POINTS: [&str; 22] = [
    "merge.pages.write",
    "merge.pages.fsync",
    "merge.manifest.write",
    "merge.manifest.fsync",
    "merge.data.rename",
    "merge.data.fsync",
    "merge.rename",
    "merge.fsync",
    "remove.unlink",
    "remove.fsync",
    "compact.pack.header",
    "compact.pack.write",
    "compact.pack.table",
    "compact.pack.fsync",
    "compact.data.rename",
    "compact.data.fsync",
    "compact.pages.write",
    "compact.pages.fsync",
    "compact.manifest.write",
    "compact.manifest.fsync",
    "compact.rename",
    "compact.fsync",
];

/// Right behind those of them that others see. (That every write is survived on both of its sides, the tests of the store show.)
const POINTS_AFTER: [&str; 4] =
    ["merge.data.rename.after", "merge.rename.after", "remove.unlink.after", "compact.rename.after"];

/// The worker dies at each point, then the daemon. What was reported as saved and not removed since is there and whole, and so is what goes on from there.
#[test]
fn it_is_killed_at_each_point() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "dirty", &["2", "most"]);
        attach(sandbox, &subject, &["--keep", "1"]);
        let mut round = 0;
        let mut save = || {
            round += 1;
            dirty(&subject, round);
            sandbox.save("job")
        };
        let mut newest = save();
        let worker = POINTS.iter().chain(&POINTS_AFTER).map(|point| format!("{point}:kill"));
        let daemon = POINTS_AFTER.map(|point| format!("{point}:kill-parent"));
        for what in worker.chain(daemon) {
            sandbox.kill_daemon();
            sandbox.start_daemon(&[("CKPT_FAULT", &what)]);
            let before = ids(sandbox);
            let log = sandbox.log().len();
            newest = save();
            if what.ends_with("parent") {
                until(&format!("{what}: the daemon dies"), || sandbox.daemon_ended().then_some(()));
            } else {
                until(&format!("{what}: the worker dies"), || {
                    sandbox.log()[log..].contains("was killed by SIGKILL").then_some(())
                });
            }
            sandbox.kill_daemon();
            let found = ids(sandbox);
            assert_eq!(found.last(), Some(&newest), "{what}: {found:?}");
            let known = |id: &String| *id == newest || before.contains(id);
            assert!(found.iter().all(known), "{what}: {found:?} of {before:?}");
            sandbox.ckpt(["verify"]).done();
        }
        sandbox.kill_daemon();
        newest = save().max(newest);
        until("what was begun is done", || (ids(sandbox) == [newest.clone()]).then_some(()));
        until("nothing is left over", || {
            let left = fs::read_dir(sandbox.store().join("tmp")).expect("tmp").count();
            (left == 0).then_some(())
        });
        sandbox.ckpt(["verify"]).done();
        must_be_well(sandbox, subject, round, &[(&newest, round)]);
    });
}

#[test]
fn the_disk_is_full() {
    isolated(|sandbox| {
        mount(Some("store"), &sandbox.store(), Some("tmpfs"), MsFlags::empty(), Some("size=24m"))
            .expect("tmpfs");
        let subject = Subject::start(sandbox, "dirty", &["2", "most"]);
        attach(sandbox, &subject, &[]);
        let mut saved = Vec::new();
        for round in 1..=3 {
            dirty(&subject, round);
            saved.push(sandbox.save("job"));
        }
        let ballast = sandbox.store().join("tmp/ballast");
        fill(&ballast);
        // None of them can be done, and none does harm.
        dirty(&subject, 4);
        sandbox.ckpt(["save", "job"]).refused(1, &["no space left"]);
        sandbox.ckpt(["merge", "job"]).refused(1, &["no space left"]);
        sandbox.ckpt(["prune", "job", "--keep", "1"]).refused(1, &["no space left"]);
        assert_eq!(ids(sandbox), saved);
        dirty(&subject, 5);
        fs::remove_file(&ballast).expect("remove the ballast");
        sandbox.ckpt(["verify"]).done();
        saved.push(sandbox.save("job"));
        sandbox.ckpt(["prune", "job", "--keep", "2"]).done();
        assert_eq!(ids(sandbox), saved[2..]);
        must_be_well(sandbox, subject, 5, &[(&saved[2], 3), (&saved[3], 5)]);
    });
}

/// Writes to a file until its file system is full.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("ballast");
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// A file system that takes no writes while this lives.
struct Hung<'a>(&'a Path);

impl<'a> Hung<'a> {
    fn new(path: &'a Path) -> Self {
        fsfreeze("--freeze", path);
        Hung(path)
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        fsfreeze("--unfreeze", self.0);
    }
}

fn fsfreeze(what: &str, path: &Path) {
    let status = Command::new("fsfreeze").arg(what).arg(path).status().expect("fsfreeze");
    assert!(status.success(), "fsfreeze {what}: {status}");
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("a program of the system's");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The slowest of disks: one that takes no writes at all until the program has shown that it runs on.
#[test]
fn a_slow_disk_slows_checkpoints_and_not_the_program() {
    isolated(|sandbox| {
        let disk = sandbox.dir().join("disk");
        fs::File::create(&disk).and_then(|f| f.set_len(1 << 30)).expect("a file for a disk");
        let store = sandbox.store();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &text(&disk)]);
        run("mount", &["-o", "loop", &text(&disk), &text(&store)]);
        fs::remove_dir(store.join("lost+found")).expect("an empty disk");

        let subject = Subject::start(sandbox, "dirty", &["256"]);
        attach(sandbox, &subject, &[]);
        let saved = [(sandbox.save("job"), 0)];
        let mut round = 0;
        let mut caught = 0;
        while caught < 2 {
            let mut save =
                ckpt_tests::process::Process::start(&mut sandbox.command(["save", "job", "--full", "-q"]));
            let begun = until("the save writes", || {
                if save.ended().is_some() {
                    return Some(false);
                }
                let work = fs::read_dir(store.join("tmp")).ok()?.flatten();
                let mut files = work.filter_map(|dir| fs::read_dir(dir.path()).ok()).flatten().flatten();
                files.any(|file| file.file_name().to_string_lossy().ends_with(".pack")).then_some(true)
            });
            if begun {
                let hung = Hung::new(&store);
                for _ in 0..3 {
                    round += 1;
                    dirty(&subject, round);
                }
                // Else it was too quick for this test.
                if save.ended().is_none() {
                    caught += 1;
                }
                drop(hung);
            }
            assert!(save.wait().success(), "{}", sandbox.log());
        }
        sandbox.ckpt(["verify"]).done();
        let (first, rounds_then) = saved[0].clone();
        must_be_well(sandbox, subject, round, &[(&first, rounds_then)]);
    });
}
