//! The memory for copies of pages that the daemon lends to one save after the other.
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// MiB of the program, three quarters of which it writes in each round.
const MIB: u64 = 64;

/// Bytes that the daemon keeps for the next save.
fn kept(sandbox: &Sandbox) -> Option<u64> {
    let pid = sandbox.daemon_pid().expect("a daemon");
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let is_memory = |path: &fs::DirEntry| {
        fs::read_link(path.path()).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:ckpt-copies"))
    };
    let memory = fds.filter(is_memory).map(|fd| fs::metadata(fd.path()).expect("memory").blocks() * 512);
    memory.reduce(|a, b| a + b)
}

fn dirty(subject: &Subject, round: u32) {
    subject.tell(&format!("dirty-{round}"));
    subject.wait_for(&format!("dirtied-{round}"));
}

#[test]
fn it_is_used_again_shrinks_and_goes() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "dirty", &[&MIB.to_string(), "most"]);
        sandbox.attach(subject.pid(), "dirty");
        sandbox.save("dirty");
        let mut last = String::new();
        for round in 1..=3 {
            dirty(&subject, round);
            last = sandbox.save("dirty");
            let kept = kept(sandbox).expect("what the save has used");
            let written = (MIB << 20) / 4 * 3;
            assert!((written..written + (8 << 20)).contains(&kept), "{kept} bytes in round {round}");
        }
        // A save that needs little leaves little.
        sandbox.save("dirty");
        let small = kept(sandbox);
        assert!(small.is_none_or(|bytes| bytes < 8 << 20), "{small:?}");
        until("the daemon gives it up", || kept(sandbox).is_none().then_some(()));
        subject.process.kill();
        subject.reset();
        let restored = sandbox.restore(&last);
        subject.verdict_must_be("round 3");
        restored.wait_gone();
    });
}

/// Each has memory of its own: none finds the other's pages in its checkpoint.
#[test]
fn of_two_saves_at_the_same_time() {
    isolated(|sandbox| {
        let jobs = ["one", "other"];
        let mut subjects =
            jobs.map(|job| (job, Subject::start(sandbox, "dirty", &[&MIB.to_string(), "most"])));
        for (job, subject) in &subjects {
            sandbox.attach(subject.pid(), job);
        }
        // So that both write what the other does not: rounds differ.
        for round in 1..=4 {
            dirty(&subjects[0].1, round);
        }
        for round in 1..=2 {
            dirty(&subjects[1].1, round);
        }
        for _ in 0..2 {
            let saving = jobs.map(|job| sandbox.command(["save", job]).spawn().expect("ckpt save"));
            for mut save in saving {
                assert!(save.wait().expect("wait").success());
            }
        }
        for ((job, subject), rounds) in subjects.iter_mut().zip([5, 3]) {
            dirty(subject, rounds);
            let id = sandbox.save(job);
            subject.process.kill();
            subject.reset();
            let restored = sandbox.restore(&id);
            subject.verdict_must_be(&format!("round {rounds}"));
            restored.wait_gone();
        }
    });
}
