//! The commands as scripts use them.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::process::{Process, Restored, gone};
use ckpt_tests::subject::{Subject, compiled};
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated, target_dir};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;

/// A shell script that a command runs as a job; `$DIR` is the test's directory.
fn shell(script: &str, sandbox: &Sandbox) -> [String; 3] {
    ["sh".into(), "-c".into(), format!("DIR={}; {script}", sandbox.dir().display())]
}

#[test]
fn run_exits_as_the_program_does() {
    isolated(|sandbox| {
        for (script, status) in
            [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)]
        {
            let args = ["run".to_owned(), "--".to_owned()];
            let ran = sandbox.ckpt(args.iter().chain(&shell(script, sandbox)));
            assert_eq!(ran.status(), status, "{script}: {ran}");
        }
        let ran = sandbox.ckpt(["run", "--", "echo", "hello"]);
        assert_eq!(ran.done(), "hello", "the program's own output");
        assert_eq!(sandbox.ckpt(["run", "--", "no-such-program"]).status(), 127);
    });
}

/// A job that `run` starts is saved under its name; restored in the foreground, it gets signals and gives its status.
#[test]
fn run_save_restore_in_the_foreground() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("subject");
        std::fs::create_dir(&dir).expect("directory");
        let mut command = sandbox.command(["run", "--name", "fore", "--"]);
        command.arg(compiled("memory")).arg(&dir);
        sandbox.ckpt(["list"]).done();
        let mut run = Process::start(&mut command);
        until("the subject is ready", || dir.join("ready").exists().then_some(()));
        let id = sandbox.save("fore");
        std::fs::write(dir.join("go"), "").expect("go");
        assert_eq!(run.wait().code(), Some(0));
        assert_eq!(std::fs::read_to_string(dir.join("verdict")).expect("a verdict"), "ok");

        std::fs::remove_file(dir.join("verdict")).expect("remove");
        let mut restore = Process::start(&mut sandbox.command(["restore", &id]));
        until("the restored subject's verdict", || dir.join("verdict").exists().then_some(()));
        assert_eq!(restore.wait().code(), Some(0), "the restored program's exit status");

        for file in ["go", "verdict"] {
            std::fs::remove_file(dir.join(file)).expect("remove");
        }
        let mut restore = Process::start(&mut sandbox.command(["restore", &id]));
        let saved = || Ran::of(&mut sandbox.command(["save", "fore"]));
        until("the restored job can be saved", || (saved().status() == 0).then_some(()));
        restore.signal(Signal::SIGTERM);
        let status = restore.wait();
        assert_eq!(status.code(), Some(128 + 15), "the signal that ended the restored program: {status}");
    });
}

#[test]
fn preloaded_library_protects_a_program() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("subject");
        std::fs::create_dir(&dir).expect("directory");
        let mut command = Command::new(compiled("memory"));
        sandbox.configure(&mut command);
        command.arg(&dir).env("LD_PRELOAD", target_dir().join("libckpt.so")).env("CKPT_NAME", "preloaded");
        sandbox.ckpt(["list"]).done();
        let mut program = Process::start(&mut command);
        until("the subject is ready", || dir.join("ready").exists().then_some(()));
        let full = sandbox.save_with("preloaded", &[]);
        let next = sandbox.save_with("preloaded", &[]);
        assert_eq!((full["kind"].as_str(), next["kind"].as_str()), (Some("full"), Some("incremental")));
        program.kill();
        for id in [full, next].map(|saved| ckpt_tests::sandbox::id(&saved)) {
            let restored = sandbox.restore(&id);
            assert_eq!(restored.pid(), program.pid());
            std::fs::write(dir.join("go"), "").expect("go");
            restored.wait_gone();
            assert_eq!(std::fs::read_to_string(dir.join("verdict")).expect("a verdict"), "ok");
            std::fs::remove_file(dir.join("go")).expect("remove");
            std::fs::remove_file(dir.join("verdict")).expect("remove");
        }
    });
}

/// Without a daemon, one is started; where that cannot be, the program runs unprotected after one line.
#[test]
fn preloaded_library_without_a_daemon() {
    isolated(|sandbox| {
        let mut command = Command::new("sh");
        sandbox.configure(&mut command);
        command.env("LD_PRELOAD", target_dir().join("libckpt.so")).env("CKPT_STORE", "/dev/null/nowhere");
        let ran = Ran::of(command.args(["-c", "echo still running; exit 3"]));
        assert_eq!((ran.status(), ran.stdout().as_str()), (3, "still running\n"), "{ran}");
        let complaint = ran.stderr();
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains("ckpt"), "{complaint}");
    });
}

#[test]
fn save_and_stop() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "memory", &[]);
        sandbox.attach(subject.pid(), "stopped");
        let id = sandbox.ckpt(["save", "stopped", "--stop"]).done();
        assert!(!id.contains(char::is_whitespace), "the id alone on one line: {id:?}");
        subject.process.wait();
        let restored = sandbox.restore("stopped");
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// `save PID` without `attach` before.
#[test]
fn save_by_pid() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "memory", &[]);
        let id = sandbox.ckpt(["save", &subject.pid().to_string()]).done();
        subject.process.kill();
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

#[test]
fn list_show_and_verify() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        sandbox.attach(subject.pid(), "listed");
        let first = sandbox.save_with("listed", &[]);
        for field in [
            "id",
            "job",
            "kind",
            "parent",
            "pause_us",
            "pages_frozen",
            "pages_scanned",
            "pages_dirty",
            "bytes_memory",
            "bytes_written",
            "data_files",
            "duration_us",
        ] {
            assert!(first.get(field).is_some(), "save --json lacks {field}: {first}");
        }
        assert_eq!(first["job"], "listed");
        let first = ckpt_tests::sandbox::id(&first);
        let second = sandbox.save("listed");
        let list = sandbox.ckpt(["list"]).done();
        let (a, b) = (list.find(&first).expect("the first"), list.find(&second).expect("the second"));
        assert!(a < b, "newest last: {list}");
        let lines = sandbox.ckpt(["list", "listed", "--json"]).done();
        for line in lines.lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect("one object a line");
            assert!(object.is_object());
        }
        let show = sandbox.ckpt(["show", &second]).done();
        for word in [&second, &first, "listed", "memory"] {
            assert!(show.contains(word), "show lacks {word}: {show}");
        }
        assert!(sandbox.ckpt(["show", &second, "--json"]).json().is_object());
        sandbox.ckpt(["verify", &second]).done();
        sandbox.ckpt(["verify"]).done();
    });
}

/// `show` and `verify` work from the files alone: by a user without privilege, without a daemon, on another machine.
#[test]
fn show_and_verify_without_privilege() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        let id = sandbox.ckpt(["save", &subject.pid().to_string()]).done();
        sandbox.kill_daemon();
        let copied = sandbox.dir().join("ckpt");
        std::fs::copy(target_dir().join("ckpt"), &copied).expect("copy");
        open_to_all(&sandbox.store());
        for args in [&["show", &id][..], &["verify", &id], &["verify"]] {
            let mut command = Command::new(&copied);
            command.args(args).env("CKPT_STORE", sandbox.store()).env("CKPT_RUNTIME_DIR", "/nowhere");
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
            Ran::of(&mut command).done();
        }
    });
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    if path.is_dir() {
        std::fs::read_dir(path).expect("directory").flatten().for_each(|entry| open_to_all(&entry.path()));
    }
}

#[test]
fn export_and_import() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "chain", &[]);
        sandbox.attach(subject.pid(), "moved");
        sandbox.save("moved");
        subject.tell("step-1");
        subject.wait_for("done-1");
        let id = sandbox.save("moved");
        subject.process.kill();
        subject.forget("step-1");
        let file = sandbox.dir().join("image.ckpt");
        let file = file.to_str().expect("a path");
        sandbox.ckpt(["export", &id, file]).done();
        let elsewhere = sandbox.dir().join("elsewhere");
        let elsewhere = elsewhere.to_str().expect("a path");
        sandbox.ckpt(["--store", elsewhere, "import", file]).done();
        sandbox.ckpt(["--store", elsewhere, "verify"]).done();
        let stdout = sandbox.ckpt(["--store", elsewhere, "restore", "moved", "--detach"]).done();
        let restored = Restored::new(stdout.parse().expect("a pid"));
        subject.verdict_must_be("step 1");
        restored.wait_gone();
        // Through a pipe.
        let pipe = format!(
            "{0} export {id} - | {0} --store {elsewhere}-2 import -",
            target_dir().join("ckpt").display()
        );
        let mut shell = Command::new("sh");
        sandbox.configure(&mut shell);
        Ran::of(shell.args(["-c", &pipe])).done();
        sandbox.ckpt(["--store", &format!("{elsewhere}-2"), "verify"]).done();
    });
}

#[test]
fn check_says_what_is_possible() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        assert!(sandbox.ckpt(["check"]).done().lines().count() > 3);
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        subject.must_be_well("checked");
    });
}

/// The newcomer's first command.
#[test]
fn demo() {
    isolated(|sandbox| {
        let mut command = sandbox.command(["demo"]);
        command.env_remove("CKPT_STORE").env_remove("CKPT_RUNTIME_DIR");
        let told = Ran::of(&mut command).done();
        for word in ["SIGKILL", "restore"] {
            assert!(
                told.to_lowercase().contains(&word.to_lowercase()),
                "the demo tells nothing of {word}: {told}"
            );
        }
    });
}

/// `--every` saves by itself.
#[test]
fn periodic_checkpoints() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        sandbox.ckpt(["attach", &subject.pid().to_string(), "--name", "often", "--every", "100ms"]).done();
        until("three checkpoints", || {
            let list = sandbox.ckpt(["list", "often", "--json"]).done();
            (list.matches("incremental").count() >= 2).then_some(())
        });
        subject.must_be_well("saved");
    });
}

/// A daemon that dies takes nobody with it, and the next one finds the jobs.
#[test]
fn the_daemon_is_killed_between_saves() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "memory", &[]);
        sandbox.attach(subject.pid(), "orphan");
        let first = sandbox.save("orphan");
        sandbox.kill_daemon();
        assert!(!gone(subject.pid()));
        let second = sandbox.save_with("orphan", &[]);
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&second)] {
            subject.reset();
            let restored = sandbox.restore(&id);
            subject.must_be_well("restored");
            restored.wait_gone();
        }
    });
}
