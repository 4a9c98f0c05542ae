//! Users who are not root: their jobs are saved by themselves, and restored in a user and PID namespace.
use ckpt_tests::ordinary_user::become_ordinary_user;
use ckpt_tests::subject::{Subject, compiled};
use ckpt_tests::wait::until;
use ckpt_tests::{isolated, process, sandbox};
use std::fs;

/// Processes, threads, descriptors and memory of many kinds.
const SUBJECTS: [&str; 20] = [
    "epoll",
    "files",
    "io_uring",
    "locks",
    "mappings",
    "memory",
    "message_queues",
    "pipes",
    "posix_memory",
    "posix_queues",
    "scm_rights",
    "segments",
    "semaphores",
    "sessions",
    "shared_memory",
    "sharing",
    "terminals",
    "thread_lists",
    "tree",
    "unix_sockets",
];

fn user_map(pid: i32) -> Vec<String> {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("uid_map");
    map.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn most_programs_come_back_and_are_saved_again() {
    isolated(|sandbox| {
        SUBJECTS.iter().for_each(|name| drop(compiled(name)));
        become_ordinary_user(sandbox);
        for name in SUBJECTS {
            let mut subject = Subject::start(sandbox, name, &[]);
            sandbox.attach(subject.pid(), name);
            sandbox.save(name);
            let id = sandbox.save(name);
            subject.process.kill();
            let restored = sandbox.ckpt(["restore", &id, "--detach"]);
            let copy: i32 = restored.done().parse().expect("a pid");
            assert!(restored.stderr().contains("new PID namespace"), "{name}: {restored}");
            assert_eq!(user_map(copy), ["65534", "65534", "1"], "{name}");
            let again = sandbox.save_with(name, &["--stop"]);
            assert_eq!(again["kind"], "incremental", "{name}");
            until("it is gone", || process::gone(copy).then_some(()));
            let copy = sandbox.ckpt(["restore", &sandbox::id(&again), "--detach"]);
            subject.copy_must_be_well(copy.done().parse().expect("a pid"), name);
        }
    });
}

#[test]
fn what_takes_privilege_is_named() {
    isolated(|sandbox| {
        ["not_dumpable", "tcp_connections", "pipes"].iter().for_each(|name| drop(compiled(name)));
        become_ordinary_user(sandbox);
        let hidden = Subject::start(sandbox, "not_dumpable", &[]);
        let pid = hidden.pid().to_string();
        sandbox.attach(hidden.pid(), "hidden");
        sandbox.ckpt(["save", "hidden"]).refused(1, &[&pid, "PR_SET_DUMPABLE", "root"]);
        sandbox.ckpt(["check", &pid]).refused(1, &[&pid, "PR_SET_DUMPABLE", "root"]);

        let connected = Subject::start(sandbox, "tcp_connections", &[]);
        sandbox.attach(connected.pid(), "connected");
        sandbox.ckpt(["save", "connected"]).refused(1, &["socket:", "127.0.0.1", "CAP_NET_ADMIN"]);
        connected.must_be_well("original");

        let plain = Subject::start(sandbox, "pipes", &[]);
        sandbox.attach(plain.pid(), "plain");
        let saved = sandbox.save_with("plain", &["--stop"]);
        let refused = sandbox.ckpt(["restore", &sandbox::id(&saved), "--pid", "same"]);
        refused.refused(1, &["pids cannot be chosen", "--pid new"]);
    });
}
