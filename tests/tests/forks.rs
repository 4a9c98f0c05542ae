//! A tree that forks, exits and signals all the time, saved at any moment, killed and restored, round after round.
use ckpt_tests::process::Restored;
use ckpt_tests::real::rounds;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::path::PathBuf;

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

/// Descriptors of the daemon. While a tree is protected that forks all the time their number goes up and down, so a leak
/// shows when none is. Memory that it lends to one save after the other, and gives up after seconds, is one of them at most.
fn descriptors(sandbox: &Sandbox) -> usize {
    let daemon = sandbox.daemon_pid().expect("a daemon");
    let all = fs::read_dir(format!("/proc/{daemon}/fd")).expect("the daemon").flatten();
    let links: Vec<_> = all.map(|entry| fs::read_link(entry.path()).unwrap_or_default()).collect();
    let is_lent = |link: &&PathBuf| link.to_string_lossy().starts_with("/memfd:ckpt-copies");
    links.len() - links.iter().filter(is_lent).count().min(1)
}

/// What would grow from round to round if something leaked.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// Anonymous memory of the daemon, KiB.
    daemon_memory: u64,
    /// Anonymous memory of the job's root, KiB.
    job_memory: u64,
    /// Mappings of the job's root.
    mappings: usize,
}

impl Use {
    fn now(sandbox: &Sandbox, job: i32) -> Self {
        let daemon = sandbox.daemon_pid().expect("a daemon");
        let maps = fs::read_to_string(format!("/proc/{job}/maps")).expect("the job");
        Use {
            daemon_memory: anonymous_memory(daemon),
            job_memory: anonymous_memory(job),
            mappings: maps.lines().count(),
        }
    }

    fn must_not_outgrow(&self, first: &Use) {
        let as_before = self.mappings == first.mappings
            && self.job_memory <= first.job_memory + 64
            && self.daemon_memory <= first.daemon_memory + 8192;
        assert!(as_before, "{first:?} became {self:?}");
    }
}

/// KiB.
fn anonymous_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a user process");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Processes in the test's PID namespace.
fn processes() -> usize {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("text");
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(name)
        .filter(|name| name.parse::<i32>().is_ok())
        .count()
}

#[test]
fn a_tree_that_forks_all_the_time() {
    isolated(|sandbox| {
        sandbox.ckpt(["list"]).done();
        let without_job = processes();
        let idle = descriptors(sandbox);
        let mut subject = Subject::start(sandbox, "forks", &[]);
        sandbox.attach(subject.pid(), "forks");
        let mut restored: Option<Restored> = None;
        let mut first = None;
        for _ in 0..rounds() {
            go_on(&subject);
            let id = sandbox.save("forks");
            match restored.take() {
                Some(restored) => restored.kill(),
                None => subject.process.kill(),
            }
            // One worker stands by for the next restore, at the other end of one socket.
            let is_left = |now: usize| now == without_job || now == without_job + 1;
            until("no process is left", || is_left(processes()).then_some(()));
            until(&format!("the daemon has {idle} descriptors again"), || {
                (descriptors(sandbox) <= idle + 1).then_some(())
            });
            let now = sandbox.restore(&id);
            sandbox.ckpt(["prune", "forks", "--keep", "2"]).done();
            go_on(&subject);
            let used = Use::now(sandbox, now.pid());
            used.must_not_outgrow(first.get_or_insert(used));
            restored = Some(now);
        }
        go_on(&subject);
        subject.must_be_well("after all rounds");
        restored.expect("a round").wait_gone();
    });
}
