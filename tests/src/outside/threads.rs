//! What each thread has for itself, registers excepted.
use super::View;
use crate::wait::until_or_late;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use std::io;
use std::path::Path;

/// The ids of the threads of a process.
pub(super) fn ids(pid: i32) -> Vec<i32> {
    let mut tids: Vec<i32> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    tids.sort_unstable();
    tids
}

/// A thread that ends while it is looked at is left out: whoever expects it misses its facts.
pub(super) fn look(view: &mut View, pid: i32) {
    for tid in ids(pid) {
        let is_gone = || (!Path::new(&format!("/proc/{pid}/task/{tid}")).exists()).then_some(());
        match of_one(pid, tid) {
            Ok(facts) => {
                facts.into_iter().for_each(|(name, value)| view.set(format!("thread {tid} {name}"), value));
            }
            Err(error) => until_or_late(is_gone).unwrap_or_else(|| panic!("thread {tid}: {error}")),
        }
    }
}

fn of_one(pid: i32, tid: i32) -> io::Result<Vec<(String, String)>> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
    let status = std::fs::read(format!("/proc/{pid}/task/{tid}/status"))?;
    for line in String::from_utf8_lossy(&status).lines() {
        if let Some((name, value)) = line.split_once(':')
            && super::process::STATUS.contains(&name)
        {
            fact(name, value.trim().to_owned());
        }
    }
    fact("scheduling", scheduling(tid)?);
    fact("affinity", affinity(tid)?);
    fact("ioprio", ioprio(tid)?.to_string());
    let slack = std::fs::read_to_string(format!("/proc/{tid}/timerslack_ns"));
    fact("timer slack", slack.unwrap_or_else(|error| error.to_string()));
    Ok(facts)
}

/// sched_getattr(2).
fn scheduling(tid: i32) -> io::Result<String> {
    // SAFETY: an all-zero sched_attr is a valid one.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size that is passed.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut attr, size_of_val(&attr), 0) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let libc::sched_attr { sched_policy, sched_flags, sched_nice, sched_priority, .. } = attr;
    let libc::sched_attr { sched_runtime, sched_deadline, sched_period, .. } = attr;
    Ok(format!(
        "policy {sched_policy} flags {sched_flags} nice {sched_nice} priority {sched_priority} \
         runtime {sched_runtime} deadline {sched_deadline} period {sched_period}"
    ))
}

fn affinity(tid: i32) -> io::Result<String> {
    let set = sched_getaffinity(Pid::from_raw(tid))?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .map(|cpu| format!("{cpu} "))
        .collect())
}

fn ioprio(tid: i32) -> io::Result<i64> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: ioprio_get takes numbers only.
    match unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, tid) } {
        -1 => Err(io::Error::last_os_error()),
        ioprio => Ok(ioprio),
    }
}
