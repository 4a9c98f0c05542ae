//! What this kernel and these privileges allow: each line is tried out rather than derived from a version.
mod probe;

use super::Line;
use ckpt_sys::pagemap::{Pagemap, Query, category};
use ckpt_sys::{kcmp as compare, pidfd};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::geteuid;
use std::fs;
use std::ops::Range;
use std::os::fd::AsFd;

/// Bits of CapEff in /proc/self/status, include/uapi/linux/capability.h.
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_RESOURCE: u32 = 24;

/// The whole report.
pub(super) fn report() -> Vec<Line> {
    let capabilities = effective_capabilities();
    let has = |bit: u32| capabilities & (1 << bit) != 0;
    vec![
        kernel(),
        identity(),
        pagemap_scan(),
        write_tracking(),
        tracing_others(has(CAP_SYS_PTRACE)),
        chosen_pids(),
        kcmp(),
        pidfd_getfd(),
        optional(
            has(CAP_SYS_RESOURCE),
            "CAP_SYS_RESOURCE: limits above a job's hard limits can be given back",
            "without it, a job whose resource limits are above this process's own cannot be restored",
        ),
        registers(),
        soft_dirty(),
        locked_memory(),
    ]
}

fn required(ok: bool, what: impl Into<String>, remedy: &str) -> Line {
    Line { ok, required: true, what: what.into(), remedy: (!ok).then(|| remedy.into()) }
}

fn optional(ok: bool, what: impl Into<String>, cost: &str) -> Line {
    Line { ok, required: false, what: what.into(), remedy: (!ok).then(|| cost.into()) }
}

fn told(what: impl Into<String>) -> Line {
    Line { ok: true, required: false, what: what.into(), remedy: None }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel() -> Line {
    let what = format!("Linux {} on {}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH);
    required(std::env::consts::ARCH == "x86_64", what, "only x86-64 is supported so far")
}

fn identity() -> Line {
    optional(
        geteuid().is_root(),
        format!("runs as {}", crate::endpoint::user_name(geteuid().as_raw())),
        "only root can protect programs of every user, and give them their users and groups back",
    )
}

fn pagemap_scan() -> Line {
    let scan = Pagemap::open(own_pid()).and_then(|map| {
        let query = Query { all: category::PRESENT, report: category::PRESENT, ..Query::default() };
        map.scan(own_page(), query, &mut Vec::new())
    });
    let what = match &scan {
        Ok(()) => "PAGEMAP_SCAN: pages in use are found in one call".to_owned(),
        Err(error) => format!("PAGEMAP_SCAN: {error}"),
    };
    required(scan.is_ok(), what, "needs Linux 6.7 or later, with CONFIG_PROC_PAGE_MONITOR")
}

fn write_tracking() -> Line {
    match probe::wp_async() {
        Ok(()) => optional(
            true,
            "userfaultfd WP_ASYNC: writes are tracked, so that checkpoints are incremental",
            "",
        ),
        Err(error) => optional(
            false,
            format!("userfaultfd WP_ASYNC: {error}"),
            "every checkpoint looks at all pages; needs Linux 6.7 or later with CONFIG_USERFAULTFD and CONFIG_PTE_MARKER_UFFD_WP",
        ),
    }
}

fn tracing_others(capable: bool) -> Line {
    let scope = read("/proc/sys/kernel/yama/ptrace_scope");
    match (scope.as_str(), capable) {
        ("3", _) => required(
            false,
            "ptrace: switched off by yama (ptrace_scope 3)",
            "boot with another kernel.yama.ptrace_scope; it cannot be changed until then",
        ),
        ("1" | "2", false) => required(
            false,
            format!("ptrace: restricted by yama (ptrace_scope {scope})"),
            "run as root, or set sysctl kernel.yama.ptrace_scope=0",
        ),
        _ => {
            let tried = probe::seize_a_child();
            let what = match &tried {
                Ok(()) => "ptrace: programs can be stopped and looked into".to_owned(),
                Err(error) => format!("ptrace: {error}"),
            };
            required(tried.is_ok(), what, "a container's seccomp filter may forbid it: allow ptrace there")
        }
    }
}

fn chosen_pids() -> Line {
    match probe::chosen_pid() {
        Ok(()) => told("clone3 set_tid: programs get their pids back"),
        Err(error) if error.errno() == Some(Errno::EPERM) => match probe::user_namespace() {
            Ok(()) => optional(
                false,
                "clone3 set_tid: programs get their pids back in a user and PID namespace only",
                "run as root, or give ckpt CAP_CHECKPOINT_RESTORE (setcap cap_checkpoint_restore+ep), for their pids here",
            ),
            Err(error) => required(
                false,
                format!("clone3 set_tid: no privilege, and no user namespace either: {error}"),
                "run as root, or allow users to make namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)",
            ),
        },
        Err(error) => required(
            false,
            format!("clone3 set_tid: {error}"),
            "needs Linux 5.9 or later; a container's seccomp filter may forbid clone3",
        ),
    }
}

fn kcmp() -> Line {
    let tried = compare::compare_files((own_pid(), 0), (own_pid(), 0));
    let what = match &tried {
        Ok(_) => "kcmp: shared file descriptions are recognised".to_owned(),
        Err(error) => format!("kcmp: {error}"),
    };
    required(tried.is_ok(), what, "needs a kernel with CONFIG_KCMP")
}

fn pidfd_getfd() -> Line {
    let tried = pidfd::open(own_pid()).and_then(|own| pidfd::getfd(own.as_fd(), 2));
    let what = match &tried {
        Ok(_) => "pidfd_getfd: descriptors can be borrowed from programs".to_owned(),
        Err(error) => format!("pidfd_getfd: {error}"),
    };
    required(tried.is_ok(), what, "needs Linux 5.6 or later")
}

fn registers() -> Line {
    let info = read("/proc/cpuinfo");
    let flags: Vec<&str> = info
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .map(|flags| flags.split_whitespace().collect())
        .unwrap_or_default();
    let known = [("avx", "AVX"), ("avx512f", "AVX-512"), ("amx_tile", "AMX"), ("pku", "PKRU")];
    let found: Vec<_> =
        known.iter().filter(|(flag, _)| flags.contains(flag)).map(|(_, name)| *name).collect();
    told(match found.as_slice() {
        [] => "extended registers: x87 and SSE, saved and given back".to_owned(),
        found => format!("extended registers: {}, all saved and given back", found.join(", ")),
    })
}

fn soft_dirty() -> Line {
    optional(
        probe::soft_dirty(),
        "soft-dirty bits: the older way to find written pages",
        "not needed where userfaultfd WP_ASYNC works",
    )
}

fn locked_memory() -> Line {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((_, hard)) if hard != libc::RLIM_INFINITY && !geteuid().is_root() => optional(
            false,
            format!("locked memory: at most {}", indicatif::HumanBytes(hard)),
            "programs that lock more (mlock) cannot be restored; raise the limit (ulimit -H -l) or run as root",
        ),
        _ => optional(true, "locked memory: no limit that matters", ""),
    }
}

fn effective_capabilities() -> u64 {
    read("/proc/self/status")
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// The page that holds a variable of ours.
fn own_page() -> Range<u64> {
    let variable = 0u8;
    let start = (&raw const variable).addr() as u64 & !0xfff;
    start..start + 0x1000
}
