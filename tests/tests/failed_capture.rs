//! A failed capture harms nobody: the target runs on with nothing of ours in it, and the last checkpoint restores.
use ckpt_tests::outside::View;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use nix::mount::{MsFlags, mount};

/// Points in the capture and in the writing of an image at which the program under test can be told to fail
/// (`CKPT_FAULT=POINT:WHAT`), in the order in which they are reached.
const POINTS: [&str; 27] = [
    "capture.seized",
    "capture.registers",
    "capture.descriptors",
    "capture.injected",
    "capture.process",
    "capture.mappings",
    "capture.dirty",
    "capture.pages",
    "capture.files",
    "capture.threads",
    "capture.captured",
    "capture.thawed",
    "commit.pack.header",
    "commit.pack.write",
    "commit.pack.table",
    "commit.pack.fsync",
    "commit.records.write",
    "commit.records.fsync",
    "commit.pages.write",
    "commit.pages.fsync",
    "commit.manifest.write",
    "commit.manifest.fsync",
    "commit.data.rename",
    "commit.data.fsync",
    "commit.rename",
    "commit.rename.after",
    "commit.fsync",
];

/// Points at which a thread of the target stands in a system call of ours or is about to, in the order in which they are reached: in the call that maps the
/// first memory of ours, and in the one that unmaps the last. The process under test can only be killed there.
const CALL_POINTS: [&str; 10] = [
    "inject.laid",
    "inject.standing",
    "inject.map.set",
    "inject.map.begun",
    "inject.map.ended",
    "inject.lifting",
    "inject.unmap.set",
    "inject.unmap.begun",
    "inject.unmap.ended",
    "inject.mask",
];

/// A subject with a checkpoint, about to fail.
struct Target<'a> {
    sandbox: &'a Sandbox,
    subject: Subject,
    last: String,
    before: View,
}

impl<'a> Target<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let subject = Subject::start(sandbox, "pending_signals", &[]);
        sandbox.attach(subject.pid(), "target");
        let last = sandbox.save("target");
        let before = View::of(subject.pid());
        Target { sandbox, subject, last, before }
    }

    /// Seen from outside, nothing has changed, and nothing of the failed checkpoint shows.
    #[track_caller]
    fn must_be_unharmed(&self, after: &str) {
        // The tracer lets go when it dies, and its death may be a moment away; a worker whose daemon was killed ends what it began.
        until("nobody traces the target", || (tracer(self.subject.pid()) == 0).then_some(()));
        self.before.must_be_seen_of(self.subject.pid(), after, &[]);
    }

    /// A save that nothing disturbs succeeds; the target is well; the checkpoint from before the failure restores.
    #[track_caller]
    fn must_recover(mut self) {
        let listed = self.sandbox.ckpt(["list", "target", "--json"]).done();
        assert!(listed.contains(&self.last), "the last checkpoint is gone: {listed}");
        self.sandbox.ckpt(["verify"]).done();
        let next = self.sandbox.save("target");
        self.must_be_unharmed("after a save that succeeded");
        self.subject.must_be_well("saved");
        assert!(self.subject.process.wait().success());
        for id in [&self.last, &next] {
            self.subject.reset();
            let restored = self.sandbox.restore(id);
            self.subject.must_be_well("restored");
            restored.wait_gone();
        }
    }
}

fn tracer(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the target lives");
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).expect("TracerPid");
    line.trim().parse().expect("a pid")
}

/// The daemon dies by SIGKILL at each point, with a capture under way.
#[test]
fn the_daemon_is_killed_at_each_point() {
    isolated(|sandbox| {
        for point in POINTS {
            let target = Target::new(sandbox);
            sandbox.kill_daemon();
            sandbox.start_daemon(&[("CKPT_FAULT", &format!("{point}:kill-parent"))]);
            let ran = sandbox.ckpt(["save", "target", "--full"]);
            // Its connections close a moment before it counts as ended.
            let what = format!("{point}: the fault strikes the daemon ({ran})");
            until(&what, || sandbox.daemon_ended().then_some(()));
            ran.refused(1, &[]);
            sandbox.kill_daemon();
            target.must_be_unharmed(point);
            target.must_recover();
            sandbox.kill_daemon();
        }
    });
}

/// The process that captures dies, or meets an error, and the daemon lives on.
#[test]
fn the_capture_fails_at_each_point() {
    isolated(|sandbox| {
        for point in POINTS {
            for what in ["kill", "error"] {
                let target = Target::new(sandbox);
                sandbox.kill_daemon();
                sandbox.start_daemon(&[("CKPT_FAULT", &format!("{point}:{what}"))]);
                sandbox.ckpt(["save", "target", "--full"]).refused(1, &[]);
                target.must_be_unharmed(&format!("{point}:{what}"));
                sandbox.kill_daemon();
                target.must_recover();
                sandbox.kill_daemon();
            }
        }
    });
}

#[test]
fn the_capture_is_killed_in_a_system_call_of_the_target() {
    isolated(|sandbox| {
        for point in CALL_POINTS {
            let target = Target::new(sandbox);
            sandbox.kill_daemon();
            sandbox.start_daemon(&[("CKPT_FAULT", &format!("{point}:kill"))]);
            sandbox.ckpt(["save", "target"]).refused(1, &["SIGKILL"]);
            target.must_be_unharmed(point);
            sandbox.kill_daemon();
            target.must_recover();
            sandbox.kill_daemon();
        }
    });
}

/// To see past the first message of a queue, the capture sets an option of the program's socket for a moment.
#[test]
fn the_capture_is_killed_while_it_peeks() {
    isolated(|sandbox| {
        // At each of the subject's five sockets, the fourth of which is under way in another.
        for (at, what) in [0, 1, 2, 3]
            .into_iter()
            .flat_map(|at| ["noted:kill", "set:kill", "back:kill"].map(|what| (at, what)))
        {
            for daemon_too in [false, true] {
                let mut subject = Subject::start(sandbox, "peek_offset", &[]);
                sandbox.attach(subject.pid(), "target");
                let before = View::of(subject.pid());
                sandbox.kill_daemon();
                let fault = format!("capture.peek.{what}:skip={at}");
                let parent = fault.replace("kill", "kill-parent");
                let faults = if daemon_too { format!("{parent},{fault}") } else { fault };
                sandbox.start_daemon(&[("CKPT_FAULT", &faults)]);
                sandbox.ckpt(["save", "target"]).refused(1, &[]);
                until("nobody traces the target", || (tracer(subject.pid()) == 0).then_some(()));
                sandbox.kill_daemon();
                if daemon_too {
                    sandbox.save("target");
                }
                before.must_be_seen_of(subject.pid(), &faults, &[]);
                subject.must_be_well(&faults);
                assert!(subject.process.wait().success());
                sandbox.kill_daemon();
            }
        }
    });
}

/// A connection is read in repair mode, in which the program could not use it.
#[test]
fn the_capture_is_killed_while_it_reads_a_connection() {
    isolated(|sandbox| {
        for (at, daemon_too) in [(0, false), (3, false), (0, true), (3, true)] {
            let mut subject = Subject::start(sandbox, "tcp_connections", &[]);
            sandbox.attach(subject.pid(), "target");
            let before = View::of(subject.pid());
            sandbox.kill_daemon();
            let fault = format!("capture.tcp.repair:kill:skip={at}");
            let faults =
                if daemon_too { format!("{},{fault}", fault.replace("kill", "kill-parent")) } else { fault };
            sandbox.start_daemon(&[("CKPT_FAULT", &faults)]);
            sandbox.ckpt(["save", "target"]).refused(1, &[]);
            until("nobody traces the target", || (tracer(subject.pid()) == 0).then_some(()));
            sandbox.kill_daemon();
            if daemon_too {
                sandbox.save("target");
            }
            before.must_equal(&View::of(subject.pid()), &faults, &[]);
            subject.must_be_well(&faults);
            assert!(subject.process.wait().success());
            sandbox.kill_daemon();
        }
    });
}

/// Nobody is left to clean up: the next capture does.
#[test]
fn the_capture_and_the_daemon_are_killed() {
    isolated(|sandbox| {
        for point in CALL_POINTS.iter().chain(&["capture.injected", "capture.files", "capture.threads"]) {
            let target = Target::new(sandbox);
            sandbox.kill_daemon();
            sandbox.start_daemon(&[("CKPT_FAULT", &format!("{point}:kill-parent,{point}:kill"))]);
            sandbox.ckpt(["save", "target"]).refused(1, &[]);
            until("the fault strikes the daemon", || sandbox.daemon_ended().then_some(()));
            until("nobody traces the target", || (tracer(target.subject.pid()) == 0).then_some(()));
            sandbox.kill_daemon();
            target.must_recover();
            sandbox.kill_daemon();
        }
    });
}

#[test]
fn the_disk_is_full() {
    isolated(|sandbox| {
        mount(Some("store"), &sandbox.store(), Some("tmpfs"), MsFlags::empty(), Some("size=8m"))
            .expect("tmpfs");
        let target = Target::new(sandbox);
        std::fs::write(sandbox.store().join("ballast"), "").expect("a file");
        fill(&sandbox.store().join("ballast"));
        let message = sandbox.ckpt(["save", "target"]).refused(1, &["no space left"]);
        assert!(
            message.contains(&*sandbox.store().to_string_lossy()),
            "the message does not name the place: {message}"
        );
        target.must_be_unharmed("the disk was full");
        std::fs::remove_file(sandbox.store().join("ballast")).expect("remove the ballast");
        target.must_recover();
    });
}

/// Writes to a file until its file system is full.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("ballast");
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// An object that cannot be saved is refused by its number, before anything is written.
#[test]
fn the_target_holds_an_unsupported_object() {
    isolated(|sandbox| {
        for kind in [
            "io_uring",
            "vsock",
            "fanotify",
            "netlink",
            "namespace",
            "pidfd",
            "unaccepted",
            "bpf",
            "perf",
            "landlock",
        ] {
            let mut subject = Subject::start(sandbox, "unsupported", &[kind]);
            sandbox.attach(subject.pid(), kind);
            let last = sandbox.save(kind);
            subject.tell("open");
            subject.wait_for("fd");
            let before = View::of(subject.pid());
            for _ in 0..2 {
                let message = sandbox.ckpt(["save", kind]).refused(1, &["873"]);
                assert!(
                    message.contains(&subject.pid().to_string()),
                    "{kind}: the pid is not named: {message}"
                );
            }
            before.must_equal(&View::of(subject.pid()), kind, &[]);
            sandbox.ckpt(["check", &subject.pid().to_string()]).refused(1, &["873"]);
            before.must_equal(&View::of(subject.pid()), kind, &[]);
            subject.must_be_well("refused");
            assert!(subject.process.wait().success());
            for file in ["open", "fd"] {
                subject.forget(file);
            }
            subject.reset();
            let restored = sandbox.restore(&last);
            subject.must_be_well("restored");
            restored.wait_gone();
        }
    });
}

/// The target dies while it is being captured: one clear message, and no checkpoint that is not whole.
#[test]
fn the_target_exits_in_mid_capture() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "dirty", &["256"]);
        sandbox.attach(subject.pid(), "mortal");
        let last = sandbox.save("mortal");
        subject.tell("dirty-1");
        subject.wait_for("dirtied-1");
        let mut save = sandbox.command(["save", "mortal", "--full"]);
        let pid = subject.pid();
        let ran = std::thread::scope(|scope| {
            let saving = scope.spawn(|| ckpt_tests::ckpt::Ran::of(&mut save));
            until("the capture begins", || (tracer(pid) != 0 || saving.is_finished()).then_some(()));
            subject.process.kill();
            saving.join().expect("ckpt save")
        });
        // The target may have been let go already when the signal came: then the checkpoint is whole.
        if ran.status() != 0 {
            ran.refused(1, &[&pid.to_string()]);
        }
        sandbox.ckpt(["verify"]).done();
        sandbox.ckpt(["save", "mortal"]).refused(1, &["mortal"]);
        subject.forget("dirty-1");
        let restored = sandbox.restore(&last);
        subject.verdict_must_be("round 0");
        restored.wait_gone();
    });
}
