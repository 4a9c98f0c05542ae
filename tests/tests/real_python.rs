//! python3, computing on arrays in several threads, and in several processes.
use crate::crunch::Stepping;
use ckpt_tests::isolated;
use ckpt_tests::real::{start, survive_rounds};
use ckpt_tests::wait::until;
use std::path::{Path, PathBuf};
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

/// A file of POSIX shared memory, removed at the end.
struct SharedMemory(PathBuf);

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn real_python_with_a_pool_shared_memory_and_queues() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("pool");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/pool.py");
        let name = sandbox.dir().file_name().expect("a name");
        let _memory = SharedMemory(Path::new("/dev/shm").join(name));
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(dir.join("steps")).arg(name);
        let process = start(sandbox, &dir, "pool", &mut command, false);
        until("python computes", || dir.join("steps").exists().then_some(()));
        sandbox.attach(process.pid(), "pool");
        let mut pool = Stepping::new("pool", &dir.join("steps"));
        survive_rounds(sandbox, &mut pool, process);
    });
}
