//! The worker that waits for the next restore: it does that, may be killed, and ends with the daemon.
use ckpt_tests::process::{Restored, gone};
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn read(pid: i32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// The process that keeps a restored job: the worker that has restored it.
fn keeper(job: &Restored) -> i32 {
    let stat = read(job.pid(), "stat");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).expect("the job's parent")
}

/// The worker that stands by while `job` runs.
fn spare(sandbox: &Sandbox, job: &Restored) -> i32 {
    let daemon = sandbox.daemon_pid().expect("a daemon");
    let keeper = keeper(job);
    until("a worker stands by", || {
        let children = read(daemon, &format!("task/{daemon}/children"));
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.filter(|pid| *pid != keeper).find(|pid| read(*pid, "cmdline").contains("__restore"))
    })
}

#[test]
fn the_next_restore_is_done_by_who_stands_by() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "dirty", &["4"]);
        sandbox.attach(subject.pid(), "job");
        let saved = sandbox.save("job");
        subject.process.kill();
        let job = sandbox.restore(&saved);
        let worker = spare(sandbox, &job);
        job.kill();
        let job = sandbox.restore_lazily(&saved);
        assert_eq!(keeper(&job), worker);
        let worker = spare(sandbox, &job);
        kill(Pid::from_raw(worker), Signal::SIGKILL).expect("a worker");
        until("it is gone", || gone(worker).then_some(()));
        job.kill();
        let job = sandbox.restore(&saved);
        assert_ne!(keeper(&job), worker);
        let worker = spare(sandbox, &job);
        sandbox.kill_daemon();
        until("it ends with the daemon", || gone(worker).then_some(()));
        assert!(!gone(job.pid()));
        job.kill();
    });
}
