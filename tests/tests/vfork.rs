//! Processes that wait in vfork(2), which nothing interrupts.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use std::process::Stdio;

#[test]
fn a_long_wait_is_refused_by_name_and_goes_on() {
    isolated(|sandbox| {
        for mode in ["root", "thread", "child"] {
            let mut subject = Subject::start(sandbox, "vfork", &[mode]);
            subject.wait_for("in-vfork");
            sandbox.attach(subject.pid(), mode);
            sandbox.ckpt(["save", mode]).refused(1, &["vfork", "Save when process"]);
            subject.tell("execute");
            subject.must_be_well(mode);
            assert!(subject.process.wait().success());
        }
    });
}

#[test]
fn a_short_one_is_waited_for() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "vfork", &["thread"]);
        subject.wait_for("in-vfork");
        sandbox.attach(subject.pid(), "job");
        let mut command = sandbox.command(["save", "job"]);
        let mut saving = command.stdout(Stdio::null()).spawn().expect("ckpt");
        subject.tell("execute");
        let status = until("the save ends", || saving.try_wait().expect("wait"));
        assert!(status.success());
        subject.process.kill();
        let restored = sandbox.restore("job");
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}
