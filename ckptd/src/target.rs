//! A process that is to be protected: what it is, and whether it may be.
use crate::endpoint::user_name;
use crate::failure::{Failure, Outcome};
use nix::unistd::geteuid;
use procfs::ProcError;
use procfs::process::{Process, Stat};

/// PF_KTHREAD in /proc/PID/stat, include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;
/// PF_EXITING, the same.
const PF_EXITING: u32 = 0x0000_0004;
/// SIGKILL's bit in the sets of /proc/PID/status.
const SIGKILL_BIT: u64 = 1 << 8;

/// One process, told apart from a later one with the same pid by when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its pid.
    pub(crate) pid: i32,
    /// Clock ticks from boot to its start.
    pub(crate) start_time: u64,
    /// Its name (`comm`).
    pub(crate) comm: String,
}

/// How a pid is taken at the moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Not at all.
    Nobody,
    /// By a process or thread that has ended, or is about to.
    Dying(String),
    /// By one that lives.
    Alive(String),
}

/// Looks a process up that somebody wants to protect.
///
/// # Errors
/// When it does not exist, has ended, is a kernel thread or a mere thread, belongs to somebody else or is traced.
pub(crate) fn inspect(pid: i32) -> Outcome<Target> {
    let stat = stat(pid).ok_or_else(|| no_such(pid))?;
    let about = format!("pid {pid} ({})", stat.comm);
    if stat.flags & PF_KTHREAD != 0 {
        return Err(Failure::new(format!("{about} is a kernel thread; only programs can be saved")));
    }
    let gone = |error: ProcError| match error {
        ProcError::NotFound(_) => no_such(pid),
        other => Failure::new(format!("{about}: {other}")),
    };
    let status = Process::new(pid).and_then(|process| process.status()).map_err(gone)?;
    if status.tgid != pid {
        return Err(Failure::new(format!("{about} is a thread of process {}", status.tgid))
            .remedy(format!("use the process: {}", status.tgid)));
    }
    if has_ended(&stat) {
        return Err(Failure::new(format!("{about} has ended already and waits for its parent to notice")));
    }
    let me = geteuid().as_raw();
    if me != 0 && [status.ruid, status.euid, status.suid].iter().any(|uid| *uid != me) {
        let owner = if status.euid == me { status.suid } else { status.euid };
        return Err(Failure::new(format!("{about} belongs to {}", user_name(owner)))
            .remedy("run ckpt as that user, or as root"));
    }
    if status.tracerpid != 0 {
        let tracer = stat_name(status.tracerpid);
        return Err(Failure::new(format!(
            "{about} is being traced by {tracer}, and one tracer excludes another"
        ))
        .remedy("detach that one (in gdb: detach), then try again"));
    }
    Ok(Target { pid, start_time: stat.starttime, comm: stat.comm })
}

/// The process with this pid, if it runs.
pub(crate) fn running(pid: i32) -> Option<Target> {
    let stat = stat(pid).filter(|stat| !has_ended(stat))?;
    Some(Target { pid, start_time: stat.starttime, comm: stat.comm })
}

/// Whether the very same process still runs.
pub(crate) fn still_runs(pid: i32, start_time: u64) -> bool {
    stat(pid).is_some_and(|stat| stat.starttime == start_time && !has_ended(&stat))
}

/// The pids from `pid`'s parent up to init.
pub(crate) fn ancestors(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut at = pid;
    // A parent that dies meanwhile hands its children on; the bound only guards against a loop through reused pids.
    while found.len() < 4096 {
        match stat(at) {
            Some(stat) if stat.ppid > 0 && !found.contains(&stat.ppid) => at = stat.ppid,
            _ => break,
        }
        found.push(at);
    }
    found
}

/// Who has this pid or thread id now.
pub(crate) fn holder(id: i32) -> Holder {
    let Some(stat) = stat(id) else { return Holder::Nobody };
    let name = format!("{} ({})", id, stat.comm);
    let killed = Process::new(id)
        .and_then(|process| process.status())
        .is_ok_and(|status| (status.sigpnd | status.shdpnd) & SIGKILL_BIT != 0);
    if has_ended(&stat) || stat.flags & PF_EXITING != 0 || killed {
        Holder::Dying(name)
    } else {
        Holder::Alive(name)
    }
}

/// `PID (name)`, for messages.
pub(crate) fn stat_name(pid: i32) -> String {
    stat(pid).map_or_else(|| format!("pid {pid}"), |stat| format!("pid {pid} ({})", stat.comm))
}

fn stat(pid: i32) -> Option<Stat> {
    Process::new(pid).and_then(|process| process.stat()).ok()
}

fn has_ended(stat: &Stat) -> bool {
    // A leader that has exited while other threads run is a zombie by its state, too, but its threads count.
    matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads <= 1
}

fn no_such(pid: i32) -> Failure {
    Failure::new(format!("no process has pid {pid}")).remedy("see `ckpt list` for jobs, or ps for processes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let target = inspect(pid).unwrap();
        assert!(still_runs(pid, target.start_time) && !still_runs(pid, target.start_time + 1));
        assert_eq!(ancestors(pid).first(), Some(&i32::try_from(std::process::id()).unwrap()));
        assert!(matches!(holder(pid), Holder::Alive(_)));
        child.kill().unwrap();
        // Not reaped yet: dying, then a zombie.
        assert!(matches!(holder(pid), Holder::Dying(_)));
        child.wait().unwrap();
        assert_eq!(holder(pid), Holder::Nobody);
        assert!(inspect(pid).unwrap_err().message.contains("no process"));
    }

    #[test]
    fn what_cannot_be_saved_is_refused() {
        if let Some(kernel) = stat(2).filter(|stat| stat.flags & PF_KTHREAD != 0) {
            assert!(inspect(kernel.pid).unwrap_err().message.contains("kernel thread"));
        }
        assert!(inspect(0).is_err() && inspect(-5).is_err());
    }
}
