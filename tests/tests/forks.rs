//! A tree that forks, exits and signals all the time, saved at any moment, killed and restored, round after round.
use ckpt_tests::process::Restored;
use ckpt_tests::real::rounds;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::fs;

/// How many turns each worker of the tree has made.
fn turns(subject: &Subject) -> Vec<u64> {
    let bytes = fs::read(subject.dir().join("turns")).expect("the subject's file");
    bytes.as_chunks().0.iter().take(3).map(|word| u64::from_ne_bytes(*word)).collect()
}

fn go_on(subject: &Subject) {
    let before = turns(subject);
    until(&format!("all workers go on after {before:?}"), || {
        if let Some(verdict) = subject.verdict() {
            panic!("{verdict}");
        }
        let now = turns(subject);
        (now.len() == 3
            && now.iter().zip(before.iter().chain([&0; 3])).all(|(now, before)| *now > before + 1))
        .then_some(())
    });
}

fn descriptors_of_the_daemon(sandbox: &Sandbox) -> usize {
    let pid = sandbox.daemon_pid().expect("a daemon");
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon").count()
}

#[test]
fn a_tree_that_forks_all_the_time() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "forks", &[]);
        sandbox.attach(subject.pid(), "forks");
        let mut restored: Option<Restored> = None;
        let mut descriptors = None;
        for _ in 0..rounds() {
            go_on(&subject);
            let id = sandbox.save("forks");
            match restored.take() {
                Some(restored) => restored.kill(),
                None => subject.process.kill(),
            }
            restored = Some(sandbox.restore(&id));
            sandbox.ckpt(["prune", "forks", "--keep", "2"]).done();
            let now = descriptors_of_the_daemon(sandbox);
            assert!(now <= *descriptors.get_or_insert(now + 8), "the daemon has {now} descriptors open");
        }
        go_on(&subject);
        subject.must_be_well("after all rounds");
        restored.expect("a round").wait_gone();
    });
}
