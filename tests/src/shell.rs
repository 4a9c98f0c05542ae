//! Shell commands whose output a test compares.
use std::process::Command;

/// Runs a command; what it prints.
///
/// # Panics
/// When it fails.
pub fn run(command: &str) -> String {
    let ran = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// Runs a command in the network namespace of a process; what it prints.
///
/// # Panics
/// When it fails.
pub fn in_network_of(pid: i32, command: &str) -> String {
    run(&format!("nsenter --net=/proc/{pid}/ns/net sh -c '{command}'"))
}
