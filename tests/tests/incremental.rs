//! Incremental checkpoints hold what changed, and every member of a chain is a checkpoint of its own.
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated, sandbox};
use serde_json::Value;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Tells the subject to do its step `n`, and waits until it did.
fn step(subject: &Subject, name: &str, done: &str, n: u32) {
    subject.tell(&format!("{name}-{n}"));
    subject.wait_for(&format!("{done}-{n}"));
}

fn number(saved: &Value, field: &str) -> u64 {
    saved[field].as_u64().unwrap_or_else(|| panic!("no {field}: {saved}"))
}

/// Asserts that a checkpoint of a program that dirtied so many pages holds little more than them.
#[track_caller]
fn must_be_small(saved: &Value, dirtied: u64) {
    assert_eq!(saved["kind"], "incremental", "{saved}");
    let most = dirtied * PAGE * 11 / 10 + MIB;
    for (what, bytes) in [
        ("pages_dirty", number(saved, "pages_dirty") * PAGE),
        ("bytes_memory", number(saved, "bytes_memory")),
    ] {
        assert!(
            bytes <= most,
            "{what}: {bytes} bytes for {dirtied} dirtied pages, {most} are the most: {saved}"
        );
    }
    assert!(number(saved, "pages_dirty") >= dirtied, "fewer pages than were dirtied: {saved}");
}

#[test]
fn one_percent_of_a_gibibyte() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "dirty", &["1024"]);
        let pages = 1024 * MIB / PAGE;
        sandbox.attach(subject.pid(), "dirty");
        let full = sandbox.save_with("dirty", &[]);
        assert_eq!(full["kind"], "full");
        assert!(number(&full, "bytes_memory") >= 1024 * MIB, "{full}");

        let mut saved = Vec::new();
        for round in 1..=2 {
            step(&subject, "dirty", "dirtied", round);
            let incremental = sandbox.save_with("dirty", &[]);
            must_be_small(&incremental, pages / 100);
            saved.push(sandbox::id(&incremental));
        }
        subject.process.kill();

        // Restored from the middle of the chain: round 2 comes again, on another branch.
        subject.forget("dirtied-2");
        let restored = sandbox.restore(&saved[0]);
        subject.wait_for("dirtied-2");
        let branch = sandbox.save_with("dirty", &[]);
        must_be_small(&branch, pages / 100);
        subject.verdict_must_be("round 2");
        restored.wait_gone();

        subject.forget("dirty-2");
        for (id, verdict) in
            [(&saved[0], "round 1"), (&saved[1], "round 2"), (&sandbox::id(&branch), "round 2")]
        {
            subject.reset();
            let restored = sandbox.restore(id);
            subject.verdict_must_be(verdict);
            restored.wait_gone();
        }
    });
}

const STEPS: u32 = 8;

fn save_each_step(sandbox: &Sandbox) -> (Subject, Vec<String>) {
    let subject = Subject::start(sandbox, "chain", &[]);
    sandbox.attach(subject.pid(), "chain");
    let mut ids = vec![sandbox.save("chain")];
    for n in 1..=STEPS {
        step(&subject, "step", "done", n);
        let saved = sandbox.save_with("chain", &[]);
        assert_eq!(saved["kind"], "incremental", "step {n}: {saved}");
        assert_eq!(saved["parent"].as_str(), ids.last().map(String::as_str), "step {n}: {saved}");
        ids.push(sandbox::id(&saved));
    }
    for n in 1..=STEPS {
        subject.forget(&format!("step-{n}"));
    }
    (subject, ids)
}

#[test]
fn every_member_of_a_chain_restores() {
    isolated(|sandbox| {
        let (mut subject, ids) = save_each_step(sandbox);
        subject.process.kill();
        subject
            .must_come_back(sandbox, ids.iter().enumerate().rev().map(|(n, id)| (id, format!("step {n}"))));
    });
}

#[test]
fn steps_taken_between_restores() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "chain", &[]);
        sandbox.attach(subject.pid(), "chain");
        let mut id = sandbox.save("chain");
        subject.process.kill();
        for n in 1..=STEPS {
            let restored = sandbox.restore(&id);
            step(&subject, "step", "done", n);
            let saved = sandbox.save_with("chain", &[]);
            assert_eq!(saved["kind"], "incremental", "step {n}: {saved}");
            id = sandbox::id(&saved);
            restored.kill();
        }
        let restored = sandbox.restore(&id);
        subject.verdict_must_be(&format!("step {STEPS}"));
        restored.wait_gone();
    });
}

#[test]
fn merged_and_removed_members_leave_the_others_whole() {
    isolated(|sandbox| {
        let (mut subject, ids) = save_each_step(sandbox);
        subject.process.kill();
        sandbox.ckpt(["merge", &ids[4]]).done();
        sandbox.ckpt(["rm", &ids[0]]).done();
        sandbox.ckpt(["rm", &ids[6]]).done();
        sandbox.ckpt(["verify"]).done();
        for (n, id) in ids.iter().enumerate() {
            subject.reset();
            if [0, 6].contains(&n) {
                sandbox.ckpt(["restore", id]).refused(1, &[id]);
                continue;
            }
            let restored = sandbox.restore(id);
            subject.verdict_must_be(&format!("step {n}"));
            restored.wait_gone();
        }
        sandbox.ckpt(["prune", "chain", "--keep", "2"]).done();
        let left = sandbox.ckpt(["list", "chain", "--json"]).done();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(left.contains(id.as_str()), n >= 7, "checkpoint {n}: {left}");
        }
        sandbox.ckpt(["verify"]).done();
        subject.reset();
        let restored = sandbox.restore("chain");
        subject.verdict_must_be(&format!("step {STEPS}"));
        restored.wait_gone();
    });
}

#[test]
fn full_on_request() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "chain", &[]);
        sandbox.attach(subject.pid(), "chain");
        for (args, kind) in
            [(&[][..], "full"), (&[], "incremental"), (&["--full"], "full"), (&[], "incremental")]
        {
            assert_eq!(sandbox.save_with("chain", args)["kind"], kind);
        }
    });
}

#[test]
fn untouched_and_zero_pages_are_not_stored() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "sparse", &[]);
        sandbox.attach(subject.pid(), "sparse");
        let saved = sandbox.save_with("sparse", &[]);
        assert!(number(&saved, "bytes_memory") < 2 * MIB, "{saved}");
        assert!(number(&saved, "bytes_written") < 2 * MIB, "{saved}");
    });
}

ckpt_tests::survives! {
    fn untouched_and_zero_pages_come_back => "sparse";
}

#[test]
fn what_write_puts_into_a_memfd() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "memfd_written", &[]);
        sandbox.attach(subject.pid(), "memfd");
        sandbox.save("memfd");
        subject.tell("change");
        subject.wait_for("changed");
        let id = sandbox.save("memfd");
        subject.process.kill();
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}
