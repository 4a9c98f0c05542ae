//! Process trees, from outside.
use crate::process::state;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The children of a process, dead ones that it has not waited for among them.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// A process and all that descend from it, parents before their children.
#[must_use]
pub fn family(root: i32) -> Vec<i32> {
    let mut family = vec![root];
    let mut at = 0;
    while let Some(&pid) = family.get(at) {
        at += 1;
        family.extend(children(pid));
    }
    family
}

/// Kills the descendants of a process that no test has as its child, and leaves the process itself stopped.
pub fn kill_descendants(root: i32) {
    let mut stopped: Vec<i32> = Vec::new();
    // A stopped process makes no more children.
    loop {
        let new: Vec<i32> = family(root).into_iter().filter(|pid| !stopped.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            crate::wait::until(&format!("process {pid} has stopped"), || {
                matches!(state(pid), None | Some('T' | 't' | 'Z' | 'X')).then_some(())
            });
            stopped.push(pid);
        }
    }
    for pid in stopped.into_iter().filter(|pid| *pid != root) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
