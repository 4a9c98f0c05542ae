//! Pids that are taken, and jobs in PID namespaces of their own.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::process::{self, Process};
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::process::Stdio;

/// The pids of a process from the outermost namespace that shows it to the innermost.
fn pids(pid: i32) -> Vec<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("NSpid");
    line.split_whitespace().map(|word| word.parse().expect("a pid")).collect()
}

fn namespace(pid: i32) -> String {
    fs::read_link(format!("/proc/{pid}/ns/pid")).expect("ns/pid").to_string_lossy().into_owned()
}

/// Processes whose name is that of the first process that ckpt makes for a PID namespace.
fn first_processes() -> usize {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let named = all.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    named.filter(|name| name.trim() == "ckpt-init").count()
}

fn restore(sandbox: &Sandbox, args: &[&str]) -> i32 {
    let ran = sandbox.ckpt(["restore", "--detach"].iter().chain(args));
    ran.done().parse().expect("a pid")
}

#[test]
fn a_job_comes_back_beside_itself() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "pid_namespace", &["beside"]);
        sandbox.attach(subject.pid(), "original");
        let id = sandbox.save("original");

        // Its pids are taken, by itself.
        let refused = sandbox.ckpt(["restore", &id, "--pid", "same"]);
        refused.refused(1, &[&subject.pid().to_string(), "taken"]);
        let ran = sandbox.ckpt(["restore", &id, "--detach"]);
        let copy: i32 = ran.done().parse().expect("a pid");
        assert!(ran.stderr().contains("new PID namespace"), "{ran}");
        assert_eq!(ran.stderr().lines().count(), 1, "{ran}");
        assert_eq!(pids(copy), [copy, subject.pid()]);
        assert_ne!(namespace(copy), namespace(subject.pid()));

        // The copy goes on, and is a job that can be saved.
        subject.process.kill();
        subject.copy_must_be_well(copy, "original's copy");
        until("the copy ends", || process::gone(copy).then_some(()));
        until("its namespace ends", || (first_processes() == 0).then_some(()));
    });
}

#[test]
fn a_job_in_a_namespace_of_its_own_is_saved_again() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "pid_namespace", &[]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        let mut copy = restore(sandbox, &[&id, "--pid", "new"]);
        for round in 0..3 {
            assert_eq!(pids(copy), [copy, subject.pid()], "round {round}");
            sandbox.ckpt(["check", &copy.to_string()]).done();
            let saved = sandbox.save_with("job", &[]);
            assert_eq!(saved["kind"], "incremental", "tracking goes on in the namespace");
            let saved = sandbox.save_with("job", &["--stop"]);
            until("it is gone", || process::gone(copy).then_some(()));
            until("its namespace ends", || (first_processes() == 0).then_some(()));
            copy = restore(sandbox, &[saved["id"].as_str().expect("an id")]);
        }
        // Its pids are free here, too.
        let saved = sandbox.save_with("job", &["--stop"]);
        let here = restore(sandbox, &[saved["id"].as_str().expect("an id"), "--pid", "same"]);
        assert_eq!((here, pids(here)), (subject.pid(), vec![here]));
        subject.must_be_well("restored among the others");
    });
}

#[test]
fn in_the_foreground_signals_go_in_and_the_status_comes_out() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "pid_namespace", &["status"]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        for (signal, status) in [(libc::SIGUSR1, 7), (libc::SIGUSR2, 128 + libc::SIGKILL)] {
            subject.forget("told");
            let mut command = sandbox.command(["restore", &id, "--pid", "new"]);
            let restoring = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ckpt");
            let pid = i32::try_from(restoring.id()).expect("a pid");
            let ran = std::thread::spawn(move || restoring.wait_with_output().expect("wait"));
            // It says when it runs.
            subject.tell("tell");
            subject.wait_for("told");
            // SAFETY: no pointers; the process is not waited for yet.
            assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
            let ended = ran.join().expect("the command").status;
            assert_eq!(ended.code(), Some(status));
            until("its namespace ends", || (first_processes() == 0).then_some(()));
        }
    });
}

#[test]
fn a_job_that_is_the_first_process_of_its_namespace() {
    isolated(|sandbox| {
        let compiled = ckpt_tests::subject::compiled("pid_namespace");
        let dir = sandbox.dir().join("first");
        fs::create_dir(&dir).expect("directory");
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]).arg(compiled).arg(&dir);
        command.current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::null());
        let outer = Process::start(&mut command);
        until("the subject is ready", || dir.join("ready").exists().then_some(()));
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.pid())).expect("children");
        let first: i32 = children.trim().parse().expect("one child");
        assert_eq!(pids(first), [first, 1]);

        sandbox.attach(first, "first");
        let id = sandbox.save("first");
        sandbox.ckpt(["restore", &id, "--pid", "same"]).refused(1, &["first process", "--pid new"]);
        let saved = sandbox.save_with("first", &["--stop"]);
        until("the first process ends", || process::gone(first).then_some(()));
        let copy = restore(sandbox, &[saved["id"].as_str().expect("an id")]);
        assert_eq!(pids(copy), [copy, 1]);
        let again = sandbox.save_with("first", &["--stop"]);
        until("the copy ends", || process::gone(copy).then_some(()));
        let copy = restore(sandbox, &[again["id"].as_str().expect("an id")]);
        fs::write(dir.join("go"), "").expect("go");
        let verdict = until("the verdict", || fs::read_to_string(dir.join("verdict")).ok());
        assert_eq!(verdict, "ok");
        until("the copy ends", || process::gone(copy).then_some(()));
        assert_eq!(first_processes(), 0);
    });
}

#[test]
fn a_namespace_lives_as_long_as_its_last_process() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "pid_namespace", &["orphan"]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        let copy = restore(sandbox, &[&id, "--pid", "new"]);
        subject.go();
        until("the root ends", || process::gone(copy).then_some(()));
        // A child that outlives it goes on until it is told to end.
        until("the orphan goes on", || subject.dir().join("orphaned").exists().then_some(()));
        assert_eq!(first_processes(), 1);
        subject.tell("end");
        until("its namespace ends", || (first_processes() == 0).then_some(()));
    });
}

/// `ckpt list` is of pids as they are here.
#[test]
fn pids_are_shown_as_they_are_outside() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "pid_namespace", &[]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        let copy = restore(sandbox, &[&id, "--pid", "new"]);
        let listed = Ran::of(&mut sandbox.command(["list"])).done();
        assert!(listed.contains(&format!("pid {copy}")), "{listed}");
        subject.copy_must_be_well(copy, "restored");
    });
}
