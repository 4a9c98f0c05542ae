//! NUMA memory policies.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;
use ckpt_tests::tree::family;
use std::fs;

/// The policies of all mappings of a tree's processes, by address: where the kernel shows them.
fn policies(root: i32) -> Vec<String> {
    let mut pids = family(root);
    pids.sort_unstable();
    let of = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap_or_default();
        let line = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    pids.iter().map(of).collect()
}

#[test]
fn of_threads_and_mappings() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "memory_policy", &[]);
        let root = subject.pid();
        let before = policies(root);
        sandbox.attach(root, "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!(policies(root), before);
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&incremental)] {
            let restored = sandbox.restore(&id);
            assert_eq!(policies(root), before);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}
