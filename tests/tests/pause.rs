//! What the pause is spent on, in counts: pages that are copied in it, stops of a thread, and system calls.
use ckpt_tests::process::Process;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated, sandbox};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// Pages that a program that does nothing may have written between pre-copy and the pause: of its stack, its C library's data.
const MOST_FROZEN: u64 = 64;

/// However much is dirty, it is copied before the pause.
#[test]
fn a_program_that_writes_nothing_meanwhile_has_hardly_a_page_copied_in_the_pause() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "dirty", &["256"]);
        let pages = (256 << 20) / 4096;
        sandbox.attach(subject.pid(), "dirty");
        let mut last = String::new();
        for (round, kind, dirty) in [(0, "full", pages), (1, "incremental", pages / 100)] {
            if round > 0 {
                subject.tell(&format!("dirty-{round}"));
                subject.wait_for(&format!("dirtied-{round}"));
            }
            let saved = sandbox.save_with("dirty", &[]);
            assert_eq!(saved["kind"], kind);
            assert!(saved["pages_dirty"].as_u64().expect("pages_dirty") >= dirty, "{saved}");
            assert!(saved["pages_frozen"].as_u64().expect("pages_frozen") <= MOST_FROZEN, "{saved}");
            last = sandbox::id(&saved);
        }
        subject.process.kill();
        subject.reset();
        let restored = sandbox.restore(&last);
        subject.verdict_must_be("round 1");
        restored.wait_gone();
    });
}

/// What is read of descriptors before the pause takes no descriptor of ours that is needed in it.
#[test]
fn a_program_with_as_many_descriptors_as_one_may_have() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "many_descriptors", &[]);
        sandbox.attach(subject.pid(), "many");
        sandbox.save("many");
        let id = sandbox.save("many");
        subject.process.kill();
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// How often each thread but the first of process `pid` has gone to sleep, when all of them sleep.
fn sleeps(pid: i32) -> BTreeMap<i32, u64> {
    until("all threads sleep", || {
        let mut counts = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let tid = value("Pid:")?.parse().ok()?;
            if tid != pid {
                value("State:")?.starts_with('S').then_some(())?;
                counts.insert(tid, value("voluntary_ctxt_switches:")?.parse().ok()?);
            }
        }
        Some(counts)
    })
}

/// Each stop of a thread is seen as one more time that it went to sleep: it is stopped once, answers all questions at once, and sleeps on.
#[test]
fn a_thread_is_stopped_twice_for_a_checkpoint() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "idle_threads", &["100"]);
        sandbox.attach(subject.pid(), "idle");
        // The first has the process make what tracks its pages.
        sandbox.save("idle");
        let before = sleeps(subject.pid());
        assert_eq!(before.len(), 100);
        let id = sandbox.save("idle");
        let after = sleeps(subject.pid());
        for (tid, count) in before {
            let more = after[&tid] - count;
            assert!(more <= 3, "thread {tid} went to sleep {more} times more");
        }
        subject.process.kill();
        subject.reset();
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// How many system calls are made from when the first thread of a subject is stopped until the last runs again.
fn system_calls(sandbox: &Sandbox, subject: &str, argument: &str) -> usize {
    let mut subject = Subject::start(sandbox, subject, &[argument]);
    sandbox.attach(subject.pid(), "counted");
    // The second finds what the first has read.
    sandbox.save("counted");
    let path = subject.dir().join("trace");
    let daemon = sandbox.daemon_pid().expect("a daemon").to_string();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&path).args(["-p", &daemon]);
    let mut strace = Process::start(&mut command);
    until("strace traces the daemon", || {
        assert!(strace.ended().is_none(), "strace does not run: `ci/setup` installs it");
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).ok()?;
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    sandbox.save("counted");
    sandbox.kill_daemon();
    strace.wait();
    let trace = fs::read_to_string(path).expect("the trace");
    let lines: Vec<&str> = trace.lines().collect();
    let first = lines.iter().position(|line| line.contains("PTRACE_SEIZE")).expect("a first stop");
    let last = lines.iter().rposition(|line| line.contains("PTRACE_DETACH")).expect("a last one");
    let is_call = |line: &&&str| line.contains('(') && !line.contains(" resumed>") && !line.contains(" --- ");
    subject.process.kill();
    lines[first..=last].iter().filter(is_call).count()
}

/// How many more there are for each of 100 more threads or descriptors.
fn system_calls_for_each(sandbox: &Sandbox, subject: &str) -> usize {
    let [few, many] = ["50", "150"].map(|count| system_calls(sandbox, subject, count));
    println!("{subject}: {few} system calls in the pause for 50, {many} for 150");
    many.saturating_sub(few).div_ceil(100)
}

#[test]
fn system_calls_for_a_thread() {
    isolated(|sandbox| assert!(system_calls_for_each(sandbox, "idle_threads") <= 38));
}

#[test]
fn system_calls_for_a_descriptor() {
    isolated(|sandbox| assert!(system_calls_for_each(sandbox, "many_descriptors") <= 8));
}
