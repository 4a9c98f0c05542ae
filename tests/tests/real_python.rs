//! python3, computing on arrays in several threads.
use crate::crunch::Stepping;
use ckpt_tests::isolated;
use ckpt_tests::real::{start, survive_rounds};
use std::process::Command;

#[test]
fn real_python_with_threads() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/crunch.py");
        let mut command = Command::new("/usr/bin/python3");
        let process = start(sandbox, &dir, "python", command.arg(script).arg(dir.join("steps")), true);
        survive_rounds(sandbox, &mut Stepping::new("python", &dir.join("steps")), process);
    });
}
