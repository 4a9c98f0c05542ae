//! A copy-on-write clone takes the place of copies in the pause: what it holds is what was there, and the program cannot tell that there is one.
use ckpt_tests::process::{Process, state};
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated, sandbox, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;

/// Has each save make clones, which otherwise takes much memory.
const FORCE: &str = "capture.clone.force:error";
/// Pages that the subject writes, again and again.
const PAGES: u64 = (6 << 20) / 4096;

/// Processes that run the subject's program and are not the subject, in whatever state but dead.
fn strangers(subject: &Subject) -> Vec<i32> {
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(&subject.pid().to_string()).expect("the subject's program");
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != subject.pid() && program(&pid.to_string()).as_ref() == Some(&own)).collect()
}

fn start(sandbox: &Sandbox, fault: &str, args: &[&str]) -> Subject {
    let faults = if fault.is_empty() { FORCE.to_owned() } else { format!("{FORCE},{fault}") };
    sandbox.start_daemon(&[("CKPT_FAULT", &faults)]);
    let subject = Subject::start(sandbox, "cloned", args);
    sandbox.attach(subject.pid(), "cloned");
    subject
}

/// The pages are not copied in the pause: they are in the clone.
#[track_caller]
fn must_be_cloned(saved: &Value) {
    let frozen = saved["pages_frozen"].as_u64().expect("pages_frozen");
    assert!(frozen < PAGES / 4, "{saved}");
}

/// No process is left that the program has not made, and none of its children.
#[track_caller]
fn must_be_alone(subject: &Subject, when: &str) {
    // When its worker has died, it may be on its way out.
    until(&format!("{when}: no clone is left"), || {
        (strangers(subject).is_empty() && tree::children(subject.pid()).is_empty()).then_some(())
    });
}

#[test]
fn a_program_that_writes_all_the_time_is_saved_as_it_was() {
    isolated(|sandbox| {
        let mut subject = start(sandbox, "", &[]);
        let mut ids = Vec::new();
        for kind in ["full", "incremental", "incremental", "incremental"] {
            let saved = sandbox.save_with("cloned", &[]);
            assert_eq!(saved["kind"], kind, "{saved}");
            must_be_cloned(&saved);
            must_be_alone(&subject, kind);
            ids.push(sandbox::id(&saved));
        }
        sandbox.ckpt(["verify"]).done();
        subject.must_be_well("saved");
        assert!(subject.process.wait().success());
        for id in ids {
            subject.reset();
            let restored = sandbox.restore(&id);
            // What was written since, to pages that the clone had, too, is in the next one.
            let next = sandbox.save_with("cloned", &[]);
            assert_eq!(next["kind"], "incremental");
            must_be_cloned(&next);
            restored.kill();
            let restored = sandbox.restore(&sandbox::id(&next));
            subject.must_be_well("restored");
            restored.wait_gone();
        }
    });
}

/// The worker that saves, which has stopped itself while the clone is there, and the clone.
fn held(sandbox: &Sandbox, subject: &Subject) -> (i32, i32) {
    until("the worker stands still with a clone", || {
        let daemon = sandbox.daemon_pid()?;
        let worker = tree::family(daemon).into_iter().find(|pid| state(*pid) == Some('T'))?;
        Some((worker, *strangers(subject).first()?))
    })
}

fn status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("its line");
    line.trim().to_owned()
}

/// What a program would know of a child of its own: its ends of pipes, locks, waits; and its mappings.
#[test]
fn the_program_cannot_tell_that_there_is_a_clone() {
    isolated(|sandbox| {
        let mut subject = start(sandbox, "capture.thawed:stop", &["closes"]);
        subject.wait_for("open");
        let mut saving = Process::start(&mut sandbox.command(["save", "cloned", "-q"]));
        let (worker, clone) = held(sandbox, &subject);
        assert_eq!(status(clone, "TracerPid:"), worker.to_string());
        assert_ne!(status(clone, "PPid:"), subject.pid().to_string());
        assert_eq!(status(clone, "NSsid:"), clone.to_string(), "a session of its own");
        assert_eq!(fs::read_dir(format!("/proc/{clone}/fd")).expect("fd").count(), 0, "its descriptors");
        let maps = fs::read_to_string(format!("/proc/{clone}/maps")).expect("maps");
        assert!(!maps.contains('/'), "mapped files: {maps}");
        assert_eq!(tree::children(subject.pid()), Vec::<i32>::new());
        subject.tell("close");
        until("all is closed", || {
            assert_eq!(subject.verdict(), None);
            subject.dir().join("closed").exists().then_some(())
        });
        assert_eq!(strangers(&subject), [clone], "it was there all the time");
        kill(Pid::from_raw(worker), Signal::SIGCONT).expect("the worker");
        assert!(saving.wait().success());
        must_be_alone(&subject, "saved");
        subject.must_be_well("saved");
        assert!(subject.process.wait().success());
    });
}

/// Wherever the worker dies while there is a clone, or the process that makes it, nothing is left of either; also when the daemon dies with it, so that nobody cleans up.
#[test]
fn the_capture_is_killed_with_a_clone() {
    isolated(|sandbox| {
        let births = ["clone.made", "clone.helper", "clone.born", "clone.orphaned"];
        let later = ["capture.cloned", "capture.thawed", "commit.pack.write"];
        let alone = births.iter().chain(&later).map(|point| (*point, format!("{point}:kill")));
        let both = births.iter().map(|point| (*point, format!("{point}:kill-parent,{point}:kill")));
        for (point, faults) in alone.chain(both) {
            let mut subject = start(sandbox, &faults, &[]);
            sandbox.ckpt(["save", "cloned"]).refused(1, &[]);
            must_be_alone(&subject, &faults);
            sandbox.kill_daemon();
            sandbox.start_daemon(&[("CKPT_FAULT", FORCE)]);
            let saved = sandbox.save_with("cloned", &[]);
            must_be_cloned(&saved);
            must_be_alone(&subject, point);
            must_come_back(sandbox, &mut subject, &sandbox::id(&saved));
            sandbox.kill_daemon();
        }
    });
}

/// The program itself is well to its end, and so is what its checkpoint brings back.
#[track_caller]
fn must_come_back(sandbox: &Sandbox, subject: &mut Subject, id: &str) {
    subject.must_be_well("saved");
    assert!(subject.process.wait().success());
    subject.reset();
    let restored = sandbox.restore(id);
    subject.must_be_well("restored");
    restored.wait_gone();
}

/// Somebody kills the clone: the save fails, and the program knows nothing of it.
#[test]
fn the_clone_is_killed() {
    isolated(|sandbox| {
        let mut subject = start(sandbox, "capture.thawed:stop", &[]);
        let mut saving = Process::start(&mut sandbox.command(["save", "cloned", "-q"]));
        let (worker, clone) = held(sandbox, &subject);
        kill(Pid::from_raw(clone), Signal::SIGKILL).expect("the clone");
        kill(Pid::from_raw(worker), Signal::SIGCONT).expect("the worker");
        assert_eq!(saving.wait().code(), Some(1));
        must_be_alone(&subject, "killed");
        sandbox.kill_daemon();
        let id = sandbox.save("cloned");
        must_come_back(sandbox, &mut subject, &id);
    });
}

/// The system has no process for it: the pages are copied in the pause, as without clones.
#[test]
fn the_system_refuses_a_clone() {
    isolated(|sandbox| {
        let mut subject = start(sandbox, "capture.clone.refused:error", &[]);
        let id = sandbox.save("cloned");
        must_be_alone(&subject, "refused");
        must_come_back(sandbox, &mut subject, &id);
    });
}
