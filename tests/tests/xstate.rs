//! The extended processor state.
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated};

ckpt_tests::survives! {
    fn vector_registers => "xstate";
    fn amx_tiles => "amx";
}

/// When the process that captures dies in the middle, the program gets its registers back by itself.
fn stays_when_a_capture_is_killed(sandbox: &Sandbox, name: &str) {
    for point in ["inject.map.ended", "capture.injected", "capture.files", "inject.unmap.begun"] {
        let mut subject = Subject::start(sandbox, name, &[]);
        for line in subject.not_exercised() {
            eprintln!("{name}: {line}");
        }
        sandbox.attach(subject.pid(), name);
        sandbox.kill_daemon();
        sandbox.start_daemon(&[("CKPT_FAULT", &format!("{point}:kill"))]);
        sandbox.ckpt(["save", name]).refused(1, &[]);
        subject.must_be_well(point);
        assert!(subject.process.wait().success(), "{point}: {}", subject.log());
        sandbox.kill_daemon();
    }
}

#[test]
fn vector_registers_after_a_killed_capture() {
    isolated(|sandbox| stays_when_a_capture_is_killed(sandbox, "xstate"));
}

#[test]
fn amx_tiles_after_a_killed_capture() {
    isolated(|sandbox| stays_when_a_capture_is_killed(sandbox, "amx"));
}
