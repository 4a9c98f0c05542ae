//! Restores that run the program before its memory is there (`restore --lazy`).
use ckpt_tests::process::gone;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated, sandbox};

/// A subject that is saved, and ended.
fn saved(sandbox: &Sandbox, name: &str) -> (Subject, String) {
    let mut subject = Subject::start(sandbox, name, &[]);
    sandbox.attach(subject.pid(), name);
    let id = sandbox.save(name);
    subject.process.kill();
    (subject, id)
}

/// The program does all that it may do to its memory while that is filled: as soon as it runs, and when it is all there.
#[test]
fn whatever_the_program_does_meanwhile() {
    isolated(|sandbox| {
        let (subject, id) = saved(sandbox, "late");
        for round in 0..4 {
            subject.reset();
            if round > 0 {
                // It begins with its first instruction.
                subject.go();
            }
            let restored = sandbox.restore_lazily(&id);
            subject.must_be_well("restored");
            restored.wait_gone();
        }
    });
}

/// In the foreground, and in a PID namespace of its own.
#[test]
fn in_the_foreground_and_elsewhere() {
    isolated(|sandbox| {
        let (subject, id) = saved(sandbox, "late");
        for pid in ["auto", "new"] {
            subject.reset();
            subject.go();
            assert_eq!(sandbox.ckpt(["restore", &id, "--lazy", "--pid", pid]).status(), 0);
            assert_eq!(subject.verdict().as_deref(), Some("ok"), "with --pid {pid}");
        }
    });
}

/// A checkpoint that is asked for meanwhile waits until all is there; it holds what has changed since, and comes back.
#[test]
fn saved_again_while_it_is_filled() {
    isolated(|sandbox| {
        let (subject, first) = saved(sandbox, "late");
        for options in [&[][..], &["--full"]] {
            subject.reset();
            let restored = sandbox.restore_lazily(&first);
            let again = sandbox.save_with("late", options);
            if options.is_empty() {
                assert_eq!(again["kind"], "incremental", "{again}");
                let dirty = again["pages_dirty"].as_u64().expect("pages_dirty");
                assert!(dirty < 1000, "{dirty} pages are dirty of a program that did nothing: {again}");
            }
            restored.kill();
            let id = sandbox::id(&again);
            for lazily in [true, false] {
                subject.reset();
                let restored = if lazily { sandbox.restore_lazily(&id) } else { sandbox.restore(&id) };
                subject.must_be_well("saved again");
                restored.wait_gone();
            }
        }
    });
}

/// What the program writes before its memory is tracked is in the next checkpoint.
#[test]
fn written_to_while_it_is_filled() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "dirty", &["256"]);
        sandbox.attach(subject.pid(), "dirty");
        let id = sandbox.save("dirty");
        subject.process.kill();
        subject.tell("dirty-1");
        let restored = sandbox.restore_lazily(&id);
        subject.wait_for("dirtied-1");
        let again = sandbox.save_with("dirty", &[]);
        assert_eq!(again["kind"], "incremental", "{again}");
        restored.kill();
        subject.reset();
        let restored = sandbox.restore(&sandbox::id(&again));
        subject.verdict_must_be("round 1");
        restored.wait_gone();
    });
}

/// Whoever fills the memory is killed: the program ends, and reads no zeros; and it can be restored again.
#[test]
fn the_server_is_killed() {
    isolated(|sandbox| {
        let (subject, id) = saved(sandbox, "late");
        for point in [
            "lazy.fill:kill:skip=2",
            "lazy.fill:kill:skip=30",
            "lazy.answer:kill:skip=5",
            "lazy.fill:error:skip=9",
        ] {
            sandbox.kill_daemon();
            sandbox.start_daemon(&[("CKPT_FAULT", point)]);
            subject.reset();
            subject.go();
            // It may be gone before the restore can tell of it.
            let _ = sandbox.ckpt(["restore", &id, "--detach", "--lazy"]);
            until("the job is gone", || gone(subject.pid()).then_some(()));
            assert_eq!(subject.verdict(), None, "{point}: {}", sandbox.log());
            assert!(sandbox.log().contains("the process that filled its memory"), "{}", sandbox.log());
            sandbox.kill_daemon();
            subject.reset();
            let restored = sandbox.restore_lazily(&id);
            subject.must_be_well("restored after all");
            restored.wait_gone();
        }
    });
}

/// Whoever fills the memory dies when all is there: the program runs on, and the next checkpoint takes all pages.
#[test]
fn the_server_is_killed_at_its_end() {
    isolated(|sandbox| {
        let (subject, id) = saved(sandbox, "late");
        sandbox.kill_daemon();
        sandbox.start_daemon(&[("CKPT_FAULT", "lazy.settle:kill")]);
        subject.reset();
        let restored = sandbox.restore_lazily(&id);
        let again = sandbox.save_with("late", &[]);
        assert!(again["pages_dirty"].as_u64().expect("pages_dirty") >= 16384, "{again}");
        restored.kill();
        sandbox.kill_daemon();
        subject.reset();
        let restored = sandbox.restore_lazily(&sandbox::id(&again));
        subject.must_be_well("saved again");
        restored.wait_gone();
    });
}

/// Subjects of other capabilities.
#[test]
fn other_programs() {
    isolated(|sandbox| {
        for name in ["memory", "mappings", "tree", "inherited", "sharing", "tls", "controls"] {
            let (subject, id) = saved(sandbox, name);
            subject.reset();
            subject.tell("restored");
            let restored = sandbox.restore_lazily(&id);
            subject.must_be_well(name);
            restored.wait_gone();
        }
    });
}
