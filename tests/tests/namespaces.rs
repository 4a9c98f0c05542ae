//! Namespaces of the job's own, but for those of pids, which have a file of their own.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;
use std::fs;

ckpt_tests::survives! {
    fn descriptors_of_namespaces => "namespace_files";
}

const KINDS: [&str; 5] = ["uts", "ipc", "net", "mnt", "cgroup"];

fn namespaces(pid: i32) -> Vec<String> {
    let link = |kind: &&str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
    KINDS.iter().map(|kind| link(kind).to_string_lossy().into_owned()).collect()
}

#[test]
fn a_job_in_namespaces_of_its_own() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "namespaces", &[]);
        let ours = namespaces(std::process::id().cast_signed());
        assert!(namespaces(subject.pid()).iter().zip(&ours).all(|(theirs, ours)| theirs != ours));
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.attach(subject.pid(), "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!(incremental["kind"], "incremental");
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&incremental)] {
            let restored = sandbox.restore(&id);
            assert_eq!(restored.pid(), subject.pid());
            assert!(namespaces(restored.pid()).iter().zip(&ours).all(|(theirs, ours)| theirs != ours));
            // Nothing of its mounts is seen outside.
            assert_eq!(fs::read_dir(subject.dir().join("own")).expect("directory").count(), 0);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}
