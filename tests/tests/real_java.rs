//! java: a program with threads under the default collector.
use crate::crunch::Stepping;
use ckpt_tests::ckpt::Ran;
use ckpt_tests::isolated;
use ckpt_tests::real::{start, survive_rounds};
use ckpt_tests::wait::until;
use std::process::Command;

#[test]
fn real_java_with_threads() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("java");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/Crunch.java");
        Ran::of(Command::new("javac").arg("-d").arg(&dir).arg(source)).done();
        let mut command = Command::new("java");
        let process = start(sandbox, &dir, "java", command.arg("Crunch").arg(dir.join("steps")), false);
        until("java computes", || dir.join("steps").exists().then_some(()));
        sandbox.attach(process.pid(), "java");
        survive_rounds(sandbox, &mut Stepping::new("java", &dir.join("steps")), process);
    });
}
