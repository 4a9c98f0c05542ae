//! Memory that processes have from their parent is stored once, and shared again after a restore.
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated, sandbox, tree};

const MIB: u64 = 1 << 20;

ckpt_tests::survives! {
    fn what_parent_and_children_changed_since => "inherited";
}

/// Bytes of anonymous memory that the processes of a tree have, each page divided among those that have it.
fn proportional(root: i32) -> u64 {
    let of = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
        let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).expect("Pss_Anon");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    tree::family(root).into_iter().map(of).sum()
}

fn bytes_memory(saved: &serde_json::Value) -> u64 {
    saved["bytes_memory"].as_u64().expect("bytes_memory")
}

#[track_caller]
fn must_share(pid: i32, before: u64, when: &str) {
    let now = proportional(pid);
    assert!(now < before + 4 * MIB, "{when}: {now} bytes of memory, {before} before");
}

fn forks_again(sandbox: &Sandbox, subject: &Subject) -> String {
    subject.tell("fork");
    subject.wait_for("forked");
    let saved = sandbox.save_with("inherited", &[]);
    assert_eq!(saved["kind"], "incremental", "{saved}");
    assert!(bytes_memory(&saved) < 8 * MIB, "one more child: {saved}");
    sandbox::id(&saved)
}

#[test]
fn inherited_memory_is_stored_once_and_shared_again() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "inherited", &[]);
        sandbox.attach(subject.pid(), "inherited");
        let before = proportional(subject.pid());
        assert!(before < 100 * MIB, "{before}");
        let full = sandbox.save_with("inherited", &[]);
        // Each child has 3 MiB of its own, and there are six processes.
        assert!(bytes_memory(&full) < 96 * MIB, "{full}");
        must_share(subject.pid(), before, "saved");
        let id = forks_again(sandbox, &subject);
        let before = proportional(subject.pid());
        subject.process.kill();

        sandbox.ckpt(["verify"]).done();
        let restored = sandbox.restore(&id);
        must_share(restored.pid(), before, "restored from the incremental checkpoint");
        let next = sandbox.save_with("inherited", &[]);
        assert_eq!(next["kind"], "incremental", "{next}");
        assert!(bytes_memory(&next) < 8 * MIB, "{next}");
        subject.must_be_well("restored from the incremental checkpoint");
        restored.wait_gone();

        // The chain as one checkpoint, without what it was made of.
        sandbox.ckpt(["rm", &sandbox::id(&full)]).done();
        sandbox.ckpt(["merge", &sandbox::id(&next)]).done();
        sandbox.ckpt(["verify"]).done();
        subject.reset();
        let restored = sandbox.restore(&sandbox::id(&next));
        must_share(restored.pid(), before, "restored from the merged checkpoint");
        subject.must_be_well("restored from the merged checkpoint");
        restored.wait_gone();
    });
}
