//! File descriptors.
use super::{View, proc_link, proc_text};
use std::collections::HashMap;

pub(super) fn look(view: &mut View, pid: i32) {
    let mut fds: Vec<i32> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    let mut objects = HashMap::new();
    for (index, &fd) in fds.iter().enumerate() {
        // The first descriptor of the same open file description.
        let first = fds[..index].iter().find(|&&other| same_description(pid, fd, other)).unwrap_or(&fd);
        view.set(format!("fd {fd} description"), format!("that of {first}"));
        view.set(format!("fd {fd} link"), link(pid, fd, &mut objects));
        view.set(format!("fd {fd} info"), info(pid, fd));
    }
}

/// kcmp(2): whether two descriptors share an open file description.
fn same_description(pid: i32, fd: i32, other: i32) -> bool {
    const KCMP_FILE: i32 = 0;
    // SAFETY: kcmp takes numbers only.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, fd, other) == 0 }
}

/// What a descriptor refers to; objects without a path by their first appearance, as a restore cannot choose inodes.
fn link(pid: i32, fd: i32, objects: &mut HashMap<String, usize>) -> String {
    let link = proc_link(pid, &format!("fd/{fd}"));
    match link.split_once(":[") {
        Some((kind, _)) if !kind.starts_with('/') => {
            let next = objects.len();
            let number = *objects.entry(link.clone()).or_insert(next);
            format!("{kind} {number}")
        }
        _ => link.split(" (deleted)").next().unwrap_or_default().to_owned(),
    }
}

/// `tfd: 5 events: 19 data: eeee pos:0 ino:2b sdev:d` without the object that it is. A one-shot entry that has fired comes back
/// with the two events that none can be added without.
fn epoll_target(words: &mut Vec<String>) {
    const ONE_SHOT: u32 = 1 << 30;
    const ALWAYS: u32 = 0x18;
    words.truncate(6);
    if let Some(events) = words.get_mut(3)
        && let Ok(bits) = u32::from_str_radix(events, 16)
        && bits & ONE_SHOT != 0
    {
        *events = format!("{:x}", bits | ALWAYS);
    }
}

/// /proc/PID/fdinfo/FD without numbers that the kernel chooses and times that run on.
fn info(pid: i32, fd: i32) -> String {
    const LEFT_OUT: [&str; 7] =
        ["mnt_id:", "ino:", "eventfd-id:", "it_value:", "ticks:", "scm_fds:", "map_id:"];
    let mut lines: Vec<String> = proc_text(pid, &format!("fdinfo/{fd}"))
        .lines()
        .filter(|line| !LEFT_OUT.iter().any(|name| line.starts_with(name)))
        .map(|line| {
            let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if line.starts_with("tfd:") {
                epoll_target(&mut words);
            }
            // lock: 1: FLOCK ADVISORY WRITE PID …: who once took a lock that a description owns is kept for show only.
            if words.get(2).is_some_and(|word| word == "FLOCK") {
                words.remove(5);
            }
            words.join(" ")
        })
        .collect();
    // The entries of an epoll set come in the order of their objects' addresses in the kernel.
    lines.sort();
    lines.join("; ")
}
