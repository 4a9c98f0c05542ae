//! All writable memory and all registers are byte-identical before and after.
use ckpt_tests::outside::View;
use ckpt_tests::process::threads_in_state;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{isolated, sandbox};

#[test]
fn memory_and_registers_of_64_threads() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "identity", &[]);
        wait_until_all_blocked(subject.pid(), 64 - 8);
        let before = View::with_memory(subject.pid());
        assert_eq!(before.count("registers "), 2 * 64, "two sets of registers of each thread");
        assert!(before.count("page ") > 2000, "{} pages", before.count("page "));

        sandbox.attach(subject.pid(), "identity");
        let full = sandbox.save("identity");
        before.must_equal(&View::with_memory(subject.pid()), "the subject itself after a full save", &[]);
        let incremental = sandbox.save_with("identity", &[]);
        assert_eq!(incremental["kind"], "incremental");
        before.must_equal(
            &View::with_memory(subject.pid()),
            "the subject itself after an incremental save",
            &[],
        );
        subject.process.kill();

        for id in [full, sandbox::id(&incremental)] {
            let restored = sandbox.restore(&id);
            wait_until_all_blocked(restored.pid(), 64 - 8);
            before.must_equal(&View::with_memory(restored.pid()), "restored", &[]);
            let again = sandbox.save("identity");
            before.must_equal(&View::with_memory(restored.pid()), "restored and saved again", &[]);
            restored.kill();
            let restored = sandbox.restore(&again);
            wait_until_all_blocked(restored.pid(), 64 - 8);
            before.must_equal(
                &View::with_memory(restored.pid()),
                "restored from a checkpoint after a restore",
                &[],
            );
        }
    });
}

/// Waits until so many threads sleep: then none of them is still on its way there, and no register changes any more.
fn wait_until_all_blocked(pid: i32, threads: usize) {
    until("the threads sleep", || (threads_in_state(pid, 'S') == threads).then_some(()));
}

/// Without which the test above would prove nothing.
#[test]
fn views_of_an_untouched_process_are_equal_and_of_another_differ() {
    isolated(|sandbox| {
        let views = [(); 2].map(|()| {
            let subject = Subject::start(sandbox, "identity", &[]);
            wait_until_all_blocked(subject.pid(), 64 - 8);
            let before = View::with_memory(subject.pid());
            before.must_equal(&View::with_memory(subject.pid()), "looked at twice", &[]);
            before
        });
        let differences = views[0].differences(&views[1], &[]);
        for kind in ["page ", "registers ", "thread ", "vma ", "auxv"] {
            assert!(differences.iter().any(|line| line.starts_with(kind)), "no difference in {kind}");
        }
    });
}
