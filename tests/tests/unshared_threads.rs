//! Threads that have left the descriptor table or the directories of their process.
use ckpt_tests::isolated;
use ckpt_tests::process;
use ckpt_tests::sandbox::id;
use ckpt_tests::subject::Subject;
use std::collections::BTreeMap;
use std::fs;

ckpt_tests::survives! {
    fn tables_and_directories_of_their_own => "unshared";
}

/// What /proc shows of each thread: directories, umask, descriptors with their targets.
fn seen(pid: i32) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).expect("task").flatten() {
        let tid = entry.file_name().into_string().expect("a tid");
        let link = |name: &str| {
            let target = fs::read_link(entry.path().join(name)).expect("link");
            target.to_string_lossy().into_owned()
        };
        facts.insert(format!("{tid} cwd"), link("cwd"));
        facts.insert(format!("{tid} root"), link("root"));
        let status = fs::read_to_string(entry.path().join("status")).expect("status");
        facts.insert(
            format!("{tid} umask"),
            status.lines().find(|line| line.starts_with("Umask")).expect("a umask").into(),
        );
        for fd in fs::read_dir(entry.path().join("fd")).expect("fd").flatten() {
            let number = fd.file_name().into_string().expect("a number");
            let target = link(&format!("fd/{number}"));
            // Pipes have other inodes.
            facts.insert(format!("{tid} fd {number}"), target.split('[').next().unwrap_or_default().into());
        }
    }
    facts
}

#[test]
fn as_seen_from_outside() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "unshared", &[]);
        let before = seen(subject.pid());
        sandbox.attach(subject.pid(), "job");
        let saved = sandbox.save_with("job", &["--stop"]);
        subject.process.wait();
        // A restore that fails half-way leaves nothing behind.
        let (place, aside) = (subject.dir().join("elsewhere"), subject.dir().join("aside"));
        fs::rename(&place, &aside).expect("rename");
        sandbox.ckpt(["restore", "job", "--detach"]).refused(1, &["elsewhere", "working directory"]);
        assert!(process::gone(subject.pid()));
        fs::rename(&aside, &place).expect("rename");
        let restored = sandbox.restore(&id(&saved));
        assert_eq!(seen(subject.pid()), before);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}
