//! What the kernel keeps for each thread in the thread's own memory; a main thread that has ended.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;

ckpt_tests::survives! {
    fn robust_list_rseq_and_clear_child_tid => "thread_lists";
}

#[test]
fn a_main_thread_that_has_ended() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "departed_main", &[]);
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.attach(subject.pid(), "departed");
        let first = sandbox.save("departed");
        let second = sandbox.save("departed");
        subject.process.kill();
        let again = {
            let restored = sandbox.restore(&first);
            let again = sandbox.save("departed");
            subject.must_be_well("restored");
            restored.wait_gone();
            again
        };
        for id in [second, again] {
            subject.reset();
            let restored = sandbox.restore(&id);
            subject.must_be_well("restored");
            restored.wait_gone();
        }
        subject.reset();
        let restored = sandbox.restore_lazily(&first);
        subject.must_be_well("lazily restored");
        restored.wait_gone();
    });
}
