//! Processes whose parents have ended, and that no process of the job has adopted.
use ckpt_tests::process::{self, Process};
use ckpt_tests::sandbox::id;
use ckpt_tests::subject::{Subject, compiled};
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::Stdio;

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned()).unwrap_or_default();
    fields.split(' ').nth(1).and_then(|ppid| ppid.parse().ok()).unwrap_or(-1)
}

/// The processes that run a program, the dead ones left out.
fn all_of(program: &Path) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runs = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    let mut found: Vec<i32> = pids.filter(runs).collect();
    found.sort_unstable();
    found
}

fn verdict(dir: &Path) -> String {
    until("the verdict", || fs::read_to_string(dir.join("verdict")).ok())
}

/// Starts the subject under `ckpt run`, and waits until it is ready.
fn run(sandbox: &Sandbox, dir: &Path) -> Process {
    fs::create_dir(dir).expect("directory");
    // The daemon is not to be made by a process of the job.
    sandbox.ckpt(["list"]).done();
    let mut command = sandbox.command(["run", "--name", "job", "--"]);
    command.arg(compiled("orphans")).arg(dir).arg("keeper").stdout(Stdio::null());
    let running = Process::start(&mut command);
    until("the subject is ready", || {
        assert!(!dir.join("verdict").exists(), "{}", verdict(dir));
        dir.join("ready").exists().then_some(())
    });
    running
}

#[test]
fn orphans_of_a_program_under_ckpt_run() {
    isolated(|sandbox| {
        let (dir, program) = (sandbox.dir().join("orphans"), compiled("orphans"));
        let mut running = run(sandbox, &dir);
        let before = all_of(&program);
        assert_eq!(before.len(), 9);
        let mut saved = sandbox.save_with("job", &["--stop"]);
        assert_eq!(running.wait().code(), Some(128 + libc::SIGKILL));
        // Restored by the daemon's worker, then from there saved again.
        for round in 0..2 {
            until("all processes have ended", || all_of(&program).is_empty().then_some(()));
            let restored = sandbox.restore(&id(&saved));
            assert_eq!(all_of(&program), before, "round {round}");
            let keeper = parent(restored.pid());
            let kept = before.iter().filter(|pid| parent(**pid) == keeper).count();
            assert_eq!(kept, 6, "the root and five orphans");
            saved = sandbox.save_with("job", &["--stop"]);
            until("the keeper ends", || process::gone(keeper).then_some(()));
        }
        // In the foreground the command is the keeper; what it has not kept ends with nobody.
        let mut command = sandbox.command(["restore", &id(&saved)]);
        let mut foreground = Process::start(command.stdout(Stdio::null()));
        until("all processes are there", || (all_of(&program) == before).then_some(()));
        until("it is a job", || (sandbox.ckpt(["save", "job"]).status() == 0).then_some(()));
        fs::write(dir.join("go"), "").expect("go");
        assert_eq!(verdict(&dir), "ok");
        assert!(foreground.wait().success());
        until("all processes have ended", || all_of(&program).is_empty().then_some(()));
    });
}

#[test]
fn a_save_leaves_orphans_unharmed() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("orphans");
        let mut running = run(sandbox, &dir);
        assert_eq!(sandbox.save_with("job", &[])["kind"], "full");
        assert_eq!(sandbox.save_with("job", &[])["kind"], "incremental");
        fs::write(dir.join("go"), "").expect("go");
        assert_eq!(verdict(&dir), "ok");
        assert!(running.wait().success());
    });
}

#[test]
fn orphans_in_a_pid_namespace() {
    isolated(|sandbox| {
        let (dir, program) = (sandbox.dir().join("orphans"), compiled("orphans"));
        let mut running = run(sandbox, &dir);
        let mut saved = sandbox.save_with("job", &["--stop"]);
        running.wait();
        for _ in 0..2 {
            until("all processes have ended", || all_of(&program).is_empty().then_some(()));
            sandbox.ckpt(["restore", &id(&saved), "--detach", "--pid", "new"]).done();
            assert_eq!(all_of(&program).len(), 9);
            saved = sandbox.save_with("job", &["--stop"]);
        }
        let stdout = sandbox.ckpt(["restore", &id(&saved), "--detach"]).done();
        fs::write(dir.join("go"), "").expect("go");
        assert_eq!(verdict(&dir), "ok");
        let root: i32 = stdout.parse().expect("a pid");
        until("the copy ends", || process::gone(root).then_some(()));
        until("all processes have ended", || all_of(&program).is_empty().then_some(()));
    });
}

/// Saves the job with `--stop`: all its processes end, and are there again when it is restored.
fn all_come_back(sandbox: &Sandbox, subject: &mut Subject, program: &Path, before: &[i32]) {
    let saved = sandbox.save_with("job", &["--stop"]);
    subject.process.wait();
    until("all processes have ended", || all_of(program).is_empty().then_some(()));
    let restored = sandbox.restore(&id(&saved));
    assert_eq!(all_of(program), before);
    subject.must_be_well("restored");
    restored.wait_gone();
}

/// Nobody but the job's own sessions tells that they are of it.
#[test]
fn orphans_of_a_program_that_was_attached() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "orphans", &["alone"]);
        let program = compiled("orphans");
        let before = all_of(&program);
        assert_eq!(before.len(), 5);
        sandbox.attach(subject.pid(), "job");
        all_come_back(sandbox, &mut subject, &program, &before);
    });
}

#[test]
fn a_process_of_an_earlier_checkpoint_is_known_when_its_parent_has_ended() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "orphans", &["late"]);
        let program = compiled("orphans");
        sandbox.attach(subject.pid(), "job");
        sandbox.save("job");
        assert_eq!(all_of(&program).len(), 3);
        subject.tell("orphan");
        until("one has ended", || (all_of(&program).len() == 2).then_some(()));
        let before = all_of(&program);
        // Another daemon knows as well.
        sandbox.kill_daemon();
        all_come_back(sandbox, &mut subject, &program, &before);
    });
}

#[test]
fn a_restored_root_has_a_parent_that_does_not_die() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "parent_death", &[]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        let restored = sandbox.restore(&id);
        let keeper = parent(restored.pid());
        // It outlives the daemon, too.
        sandbox.kill_daemon();
        assert_eq!(parent(restored.pid()), keeper);
        subject.must_be_well("restored");
        restored.wait_gone();
        until("the keeper ends", || process::gone(keeper).then_some(()));
    });
}

#[test]
fn a_restored_root_is_told_of_its_keepers_death() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "parent_death", &["once"]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        let restored = sandbox.restore(&id);
        let keeper = parent(restored.pid());
        kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("kill");
        until("it has another parent", || (parent(restored.pid()) != keeper).then_some(()));
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}
