//! Mount namespaces as containers have them: a root directory that is a mount of its own, and nothing of the one outside.
use ckpt_tests::mounts::view;
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated};
use std::fs;

/// What process `pid` sees mounted; without the one mount that the subject has hidden, which does not come back.
fn seen(pid: i32) -> Vec<String> {
    view(pid).into_iter().filter(|line| !line.contains(" /hides/removed ")).collect()
}

/// A subject whose root directory is of a kind, its process in that namespace (a child, if there are arguments that say so), saved, killed and restored.
fn survives(sandbox: &Sandbox, kind: &str, child: &[&str]) {
    let mut subject = Subject::start(sandbox, "container", &[&[kind], child].concat());
    let inner: i32 = fs::read_to_string(subject.dir().join("child")).expect("a file").parse().expect("a pid");
    let cwd = || fs::read_link(format!("/proc/{inner}/cwd")).expect("a directory");
    let before = (seen(inner), cwd());
    assert_ne!(view(inner), before.0, "nothing is hidden");
    let outside = view(std::process::id().cast_signed());
    sandbox.ckpt(["check", &subject.pid().to_string()]).done();
    sandbox.attach(subject.pid(), "job");
    let first = sandbox.save("job");
    let incremental = sandbox.save_with("job", &[]);
    assert_eq!(incremental["kind"], "incremental");
    assert_eq!((seen(inner), cwd()), before);
    subject.process.kill();
    for id in [first, ckpt_tests::sandbox::id(&incremental)] {
        let restored = sandbox.restore(&id);
        assert_eq!((seen(inner), cwd()), before);
        assert_eq!(view(std::process::id().cast_signed()), outside, "nothing of it is seen outside");
        subject.must_be_well("restored");
        restored.wait_gone();
        subject.reset();
    }
    for line in subject.not_exercised() {
        println!("{line}");
    }
}

#[test]
fn a_bound_directory_as_root() {
    isolated(|sandbox| survives(sandbox, "bind", &[]));
}

#[test]
fn a_file_system_in_memory_as_root() {
    isolated(|sandbox| survives(sandbox, "tmpfs", &[]));
}

#[test]
fn an_overlay_as_root() {
    isolated(|sandbox| survives(sandbox, "overlay", &[]));
}

#[test]
fn of_a_child() {
    isolated(|sandbox| survives(sandbox, "bind", &["child"]));
}

#[test]
fn of_a_child_in_memory() {
    isolated(|sandbox| survives(sandbox, "tmpfs", &["child"]));
}
