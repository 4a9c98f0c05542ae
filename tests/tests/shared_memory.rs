//! Shared memory and memfds.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;
use std::fs;

ckpt_tests::survives! {
    fn anonymous_shared_memory => "shared_memory";
    fn memfds => "memfd";
    fn system_v_segments => "segments";
    fn posix_shared_memory => "posix_memory";
}

#[test]
fn posix_shared_memory_that_is_gone_or_that_others_use() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "posix_memory", &[]);
        let file = fs::read_to_string(subject.dir().join("name")).expect("its name");
        sandbox.attach(subject.pid(), "memory");
        let id = sandbox.save("memory");
        subject.process.kill();

        fs::remove_file(&file).expect("shared memory");
        subject.tell("restored");
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored without the file");
        restored.wait_gone();

        let theirs = fs::read(&file).expect("shared memory");
        let mut other = Subject::start(sandbox, "posix_memory", &["hold", &file]);
        subject.reset();
        let restored = sandbox.restore(&id);
        assert!(
            fs::read(&file).expect("shared memory") == theirs,
            "memory of another process was overwritten"
        );
        restored.kill();
        other.process.kill();

        let restored = sandbox.restore(&id);
        subject.tell("restored-2");
        subject.must_be_well("restored when nobody else has it");
        restored.wait_gone();
    });
}
