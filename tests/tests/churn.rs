//! A program that never stands still, saved again and again.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;

#[test]
fn saved_and_restored_in_full_flight() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "churn", &[]);
        let pid = subject.pid();
        sandbox.attach(pid, "churn");
        let ids: Vec<String> = (0..20).map(|_| sandbox.save("churn")).collect();
        subject.must_be_well("saved");
        assert!(subject.process.wait().success());
        for id in ids.iter().step_by(4) {
            subject.reset();
            let restored = sandbox.restore(id);
            for _ in 0..3 {
                sandbox.save("churn");
            }
            let last = sandbox.save("churn");
            restored.kill();
            let restored = sandbox.restore(&last);
            subject.must_be_well("restored");
            restored.wait_gone();
        }
    });
}
