//! Page faults that programs handle themselves.
use ckpt_tests::subject::Subject;
use ckpt_tests::{isolated, sandbox};

ckpt_tests::survives! {
    fn missing_and_protected_pages => "userfaultfd";
    fn events_and_children => "userfaultfd_events";
}

/// What it wrote between two checkpoints is in the second one, which comes back as well where pages otherwise come late.
#[test]
fn written_to_between_checkpoints() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "userfaultfd", &[]);
        sandbox.attach(subject.pid(), "uffd");
        let first = sandbox.save("uffd");
        subject.tell("write");
        subject.wait_for("written");
        let second = sandbox.save_with("uffd", &[]);
        assert_eq!(second["kind"], "incremental", "{second}");
        subject.process.kill();
        let second = sandbox::id(&second);
        for lazily in [false, true] {
            subject.reset();
            std::fs::remove_file(subject.dir().join("written")).expect("written");
            let restore = |id: &str| if lazily { sandbox.restore_lazily(id) } else { sandbox.restore(id) };
            std::fs::remove_file(subject.dir().join("write")).expect("write");
            let restored = restore(&first);
            subject.must_be_well("restored from the first checkpoint");
            restored.wait_gone();
            subject.reset();
            subject.tell("write");
            subject.tell("written");
            let restored = restore(&second);
            subject.must_be_well("restored from the second checkpoint");
            restored.wait_gone();
        }
    });
}

/// A program that has been saved, and tracked, before can register memory as any other; and what is tracked no more is saved in whole.
#[test]
fn made_after_a_checkpoint() {
    isolated(|sandbox| {
        let mut subject = Subject::start_unready(sandbox, "userfaultfd", &["late"]);
        subject.wait_for("idle");
        sandbox.attach(subject.pid(), "late");
        sandbox.save("late");
        subject.tell("begin");
        subject.wait_ready();
        let id = sandbox.save("late");
        // The subject itself goes on first, and registers memory that had been tracked.
        subject.must_be_well("saved");
        assert!(subject.process.wait().success(), "{}", subject.log());
        subject.reset();
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// Each is refused by its name, at once or when it has been waited for, and goes on.
#[test]
fn what_cannot_be_saved() {
    isolated(|sandbox| {
        let cases = [
            ("shared", "mapping at"),
            ("ended", "fd 873"),
            ("in-a-call", "waits in a system call"),
            ("unmapping", "what it does to its memory"),
        ];
        for (kind, words) in cases {
            let mut subject = Subject::start(sandbox, "userfaultfd_refused", &[kind]);
            sandbox.attach(subject.pid(), kind);
            let pid = subject.pid().to_string();
            sandbox.ckpt(["save", kind]).refused(1, &[&pid, words, "userfaultfd"]);
            subject.must_be_well("refused");
            assert!(subject.process.wait().success(), "{kind}: {}", subject.log());
        }
    });
}
