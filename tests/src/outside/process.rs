//! What the threads of a process share.
use super::{View, hex, proc_link, proc_text};

/// Lines of /proc/PID/status that must stay.
pub(super) const STATUS: [&str; 24] = [
    "Name",
    "Umask",
    "Tgid",
    "Pid",
    "TracerPid",
    "Uid",
    "Gid",
    "Groups",
    "NSpid",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "THP_enabled",
    "Cpus_allowed_list",
];

/// Fields of /proc/PID/stat that must stay: number as proc(5) counts, and name.
const STAT: [(usize, &str); 17] = [
    (5, "pgrp"),
    (6, "session"),
    (7, "tty_nr"),
    (18, "priority"),
    (19, "nice"),
    (20, "num_threads"),
    (26, "startcode"),
    (27, "endcode"),
    (28, "startstack"),
    (38, "exit_signal"),
    (40, "rt_priority"),
    (41, "policy"),
    (45, "start_data"),
    (46, "end_data"),
    (47, "start_brk"),
    (48, "arg_start"),
    (51, "env_end"),
];

fn stat(pid: i32) -> Vec<String> {
    let stat = proc_text(pid, "stat");
    let fields = stat.rsplit_once(") ").expect("pid (comm) state").1;
    fields.split(' ').map(|field| field.trim().to_owned()).collect()
}

/// The pid of a process's parent.
pub(super) fn parent(pid: i32) -> String {
    stat(pid)[1].clone()
}

/// A process that has ended and that nobody has waited for.
pub(super) fn look_at_dead(view: &mut View, pid: i32) {
    view.set("state", "dead");
    view.set("comm", proc_text(pid, "comm"));
    let fields = stat(pid);
    for (number, name) in [(5, "pgrp"), (6, "session"), (38, "exit_signal"), (52, "exit_code")] {
        view.set(format!("stat {name}"), fields[number - 3].as_str());
    }
}

pub(super) fn look(view: &mut View, pid: i32) {
    for line in proc_text(pid, "status").lines() {
        if let Some((name, value)) = line.split_once(':')
            && STATUS.contains(&name)
        {
            view.set(format!("status {name}"), value.trim());
        }
    }
    let fields = stat(pid);
    for (number, name) in STAT {
        view.set(format!("stat {name}"), fields[number - 3].as_str());
    }
    // The kernel lists them in no order that means anything.
    let timers = proc_text(pid, "timers");
    let mut timers: Vec<&str> = timers.split("ID: ").collect();
    timers.sort_unstable();
    view.set("timers", timers.join("ID: "));
    for file in ["limits", "personality", "oom_score_adj", "coredump_filter"] {
        view.set(file, proc_text(pid, file));
    }
    for file in ["auxv", "cmdline", "environ"] {
        view.set(file, hex(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()));
    }
    for link in ["exe", "cwd", "root"] {
        view.set(link, proc_link(pid, link));
    }
}
