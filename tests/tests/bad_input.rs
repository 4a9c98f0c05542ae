//! Wrong input: exit status 1 or 2, and one clear message that names what is wrong.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::outside::View;
use ckpt_tests::process::Process;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated, on_host};
use nix::mount::{MsFlags, mount};
use std::os::unix::process::CommandExt;
use std::process::Command;

const NOBODY: u32 = 65534;

/// One message: a line that says what and why, and at most a few that say what to do.
#[track_caller]
fn must_be_one_message(message: &str) {
    assert!(message.starts_with("ckpt: ") || message.starts_with("error: "), "{message}");
    assert!(message.lines().count() <= 6, "{message}");
}

#[test]
fn a_pid_that_does_not_exist() {
    isolated(|sandbox| {
        for args in [["save", "4000000"], ["attach", "4000000"], ["check", "4000000"]] {
            must_be_one_message(&sandbox.ckpt(args).refused(1, &["4000000"]));
        }
        sandbox.ckpt(["attach", "0"]).refused(2, &[]);
        sandbox.ckpt(["attach", "-5"]).refused(2, &[]);
        sandbox.ckpt(["attach", "pid"]).refused(2, &["pid"]);
    });
}

#[test]
fn a_job_or_checkpoint_that_does_not_exist() {
    isolated(|sandbox| {
        for command in ["save", "restore", "show", "rm", "merge", "verify"] {
            must_be_one_message(&sandbox.ckpt([command, "no-such-thing"]).refused(1, &["no-such-thing"]));
        }
        must_be_one_message(
            &sandbox.ckpt(["prune", "no-such-thing", "--keep", "1"]).refused(1, &["no-such-thing"]),
        );
        must_be_one_message(&sandbox.ckpt(["list", "no-such-thing"]).refused(1, &["no-such-thing"]));
        must_be_one_message(&sandbox.ckpt(["export", "no-such-thing", "-"]).refused(1, &["no-such-thing"]));
        let file = sandbox.dir().join("no-such-file");
        must_be_one_message(
            &sandbox.ckpt(["import".as_ref(), file.as_os_str()]).refused(1, &["no-such-file"]),
        );
        std::fs::write(&file, "this is not an image, though it is long enough to be read as one")
            .expect("write");
        must_be_one_message(
            &sandbox.ckpt(["import".as_ref(), file.as_os_str()]).refused(1, &["no-such-file"]),
        );
    });
}

#[test]
fn a_kernel_thread() {
    on_host(|sandbox| {
        let is_kernel_thread = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let flags =
                stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
            flags.unwrap_or(0) & 0x0020_0000 != 0
        };
        // In a container there is none to be seen.
        let Some(pid) = (2..200).find(is_kernel_thread) else { return };
        for command in ["save", "attach", "check"] {
            let message =
                sandbox.ckpt([command, &pid.to_string()]).refused(1, &[&pid.to_string(), "kernel thread"]);
            must_be_one_message(&message);
        }
    });
}

#[test]
fn a_process_of_another_user() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        let before = View::of(subject.pid());
        let others = OtherUser::new(sandbox);
        for command in ["save", "attach", "check"] {
            let message =
                others.ckpt(&[command, &subject.pid().to_string()]).refused(1, &[&subject.pid().to_string()]);
            must_be_one_message(&message);
            assert!(message.contains("root") || message.contains("user"), "{message}");
        }
        before.must_equal(&View::of(subject.pid()), "after another user tried", &[]);
        // Nor may another user speak to root's daemon.
        sandbox.ckpt(["list"]).done();
        let socket = sandbox.socket().expect("a socket");
        let mode = |path: &std::path::Path| {
            std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).expect("metadata")) & 0o077
        };
        assert_eq!((mode(&socket), mode(&sandbox.runtime())), (0, 0), "others may reach the daemon's socket");
    });
}

/// What another user has: a copy of the program that the user may run, a store, a runtime directory.
struct OtherUser {
    dir: std::path::PathBuf,
}

impl OtherUser {
    fn new(sandbox: &Sandbox) -> Self {
        let dir = sandbox.dir().join("nobody");
        std::fs::create_dir(&dir).expect("directory");
        std::fs::copy(ckpt_tests::target_dir().join("ckpt"), dir.join("ckpt")).expect("copy of ckpt");
        std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).expect("chown");
        OtherUser { dir }
    }

    fn ckpt(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(self.dir.join("ckpt"));
        command.args(args).uid(NOBODY).gid(NOBODY).current_dir("/");
        command.env("CKPT_STORE", self.dir.join("store")).env("CKPT_RUNTIME_DIR", self.dir.join("run"));
        Ran::of(&mut command)
    }
}

#[test]
fn a_process_that_gdb_traces() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        sandbox.attach(subject.pid(), "traced");
        let last = sandbox.save("traced");
        let (attached, release) = (sandbox.dir().join("attached"), sandbox.dir().join("release"));
        let script = format!(
            "shell touch {0}; while [ ! -e {1} ]; do sleep 0.01; done",
            attached.display(),
            release.display()
        );
        let mut gdb = Command::new("gdb");
        gdb.args(["-q", "-nx", "-batch", "-p", &subject.pid().to_string(), "-ex", &script]);
        let log = std::fs::File::create(sandbox.dir().join("gdb.log")).expect("log");
        let mut gdb = Process::start(gdb.stdout(log.try_clone().expect("dup")).stderr(log));
        until("gdb traces the subject", || {
            assert!(
                gdb.ended().is_none(),
                "gdb ended: {:?}",
                std::fs::read_to_string(sandbox.dir().join("gdb.log"))
            );
            attached.exists().then_some(())
        });
        let tracer = gdb.pid().to_string();
        for name in ["traced", &subject.pid().to_string()] {
            let message = sandbox.ckpt(["save", name]).refused(1, &["trace", &tracer]);
            must_be_one_message(&message);
        }
        sandbox.ckpt(["check", &subject.pid().to_string()]).refused(1, &["trace", &tracer]);
        std::fs::write(&release, "").expect("release");
        assert!(gdb.wait().success());
        sandbox.save("traced");
        subject.must_be_well("traced");
        drop(subject.process);
        sandbox.ckpt(["verify", &last]).done();
    });
}

#[test]
fn a_store_that_is_not_one() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        let other = sandbox.dir().join("photos");
        std::fs::create_dir(&other).expect("directory");
        std::fs::write(other.join("holiday.jpg"), "a photo").expect("file");
        let other = other.to_str().expect("a path");
        let pid = subject.pid().to_string();
        for args in [&["save", &pid][..], &["attach", &pid], &["list"], &["verify"], &["run", "true"]] {
            let message = sandbox.ckpt(["--store", other].iter().chain(args)).refused(1, &["photos"]);
            must_be_one_message(&message);
        }
        let file = sandbox.dir().join("photos/holiday.jpg");
        let file = file.to_str().expect("a path");
        must_be_one_message(&sandbox.ckpt(["--store", file, "save", &pid]).refused(1, &["holiday.jpg"]));
        let entries = std::fs::read_dir(sandbox.dir().join("photos")).expect("directory").count();
        assert_eq!(entries, 1, "something was written to a directory that is not a store");
        subject.must_be_well("refused");
    });
}

#[test]
fn a_store_of_a_newer_version() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        let pid = subject.pid().to_string();
        sandbox.ckpt(["save", &pid]).done();
        sandbox.kill_daemon();
        make_newer(&sandbox.store().join("format"));
        for args in [&["save", &pid][..], &["list"], &["verify"], &["run", "true"]] {
            let message = Ran::of(&mut sandbox.command(args)).refused(1, &["99", "newer"]);
            must_be_one_message(&message);
        }
        subject.must_be_well("refused");
    });
}

/// Gives a store's format file version 99, with the checksums that it has then: docs/image-format.md.
fn make_newer(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).expect("the store's format file");
    bytes[8..10].copy_from_slice(&99_u16.to_le_bytes());
    let checksum = blake3::hash(&bytes[..96]);
    bytes[96..128].copy_from_slice(checksum.as_bytes());
    let end = bytes.len() - 32;
    let digest = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(digest.as_bytes());
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn a_store_that_is_not_writable() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        let pid = subject.pid().to_string();
        let id = sandbox.ckpt(["save", &pid]).done();
        sandbox.kill_daemon();
        // Root may write where the permissions say no, but not to what is mounted read-only.
        let store = sandbox.store();
        mount(Some(&store), &store, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind mount");
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &store, None::<&str>, read_only, None::<&str>).expect("remount");
        let before = View::of(subject.pid());
        let message = Ran::of(&mut sandbox.command(["save", &pid])).refused(1, &["read-only"]);
        must_be_one_message(&message);
        assert!(message.contains(store.to_str().expect("a path")), "the store is not named: {message}");
        before.must_equal(&View::of(subject.pid()), "after the refusal", &[]);
        // Reading needs no writing.
        Ran::of(&mut sandbox.command(["verify", &id])).done();
        Ran::of(&mut sandbox.command(["show", &id])).done();
        subject.must_be_well("refused");
    });
}

#[test]
fn wrong_usage() {
    isolated(|sandbox| {
        let wrong: [&[&str]; 9] = [
            &[],
            &["no-such-command"],
            &["save"],
            &["save", "x", "--no-such-option"],
            &["run"],
            &["prune", "x"],
            &["prune", "x", "--keep", "none"],
            &["restore", "x", "--pid", "odd"],
            &["attach", "1", "--every", "soon"],
        ];
        for args in wrong {
            sandbox.ckpt(args).refused(2, &[]);
        }
    });
}

/// Options whose feature comes later say so, and are not ignored.
#[test]
fn options_that_come_later() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        let pid = subject.pid().to_string();
        sandbox.ckpt(["attach", &pid, "--data", "/tmp"]).refused(2, &["--data"]);
        sandbox.ckpt(["run", "--data", "/tmp", "--", "true"]).refused(2, &["--data"]);
        subject.must_be_well("refused");
    });
}

/// A restore cannot take a pid from a process that lives.
#[test]
fn a_pid_that_is_taken() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "memory", &[]);
        let pid = subject.pid().to_string();
        let id = sandbox.ckpt(["save", &pid]).done();
        let before = View::of(subject.pid());
        let message = sandbox.ckpt(["restore", &id, "--detach", "--pid", "same"]).refused(1, &[&pid]);
        must_be_one_message(&message);
        before.must_equal(&View::of(subject.pid()), "after the refusal", &[]);
        subject.must_be_well("refused");
    });
}
