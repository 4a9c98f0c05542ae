//! The process under construction: born with the job's pid, held by ptrace, empty of what it inherited.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::restore::RootBirth;
use ckpt_image::record::{MmV1, TaskV1};
use ckpt_sys::inject::{Injector, SCRATCH_SIZE};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::{self, maps, stat::Stat};
use ckpt_sys::ptrace::{self, Stop};
use ckpt_sys::{RemoteAddr, SysError, spawn};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How long to wait for a pid whose process has ended but is not waited for yet.
const PID_LIMIT: Duration = Duration::from_secs(20);
/// Lowest and highest address for the scratch area: above what mmap_min_addr forbids, below the end of user space.
const LOWEST: u64 = 0x1_0000;
const HIGHEST: u64 = 0x7fff_ffff_f000;

/// A new process, seized and stopped. It dies with us until [`Self::keep`].
#[derive(Debug)]
pub(crate) struct Leader {
    pid: i32,
    threads: Vec<i32>,
    kept: bool,
    /// It is the first process of a PID namespace.
    first: bool,
}

impl Leader {
    /// Makes the process with id `pid`, our child if `birth` says nothing else; waits for a dead process that still holds it.
    pub(crate) fn spawn(pid: i32, birth: RootBirth) -> RestoreResult<Self> {
        let mut patience = Patience::new();
        loop {
            if birth == RootBirth::Done {
                break;
            }
            match spawn::waiting_process(pid, birth == RootBirth::Sibling) {
                Ok(_) => break,
                Err(error) if error.errno() == Some(Errno::EEXIST) => patience.wait_for(pid)?,
                Err(error) if error.errno() == Some(Errno::EPERM) => {
                    return Err(RestoreError::Machine {
                        reason: format!("a process with pid {pid} cannot be made without privilege"),
                        remedy: "Run ckpt as root or with CAP_CHECKPOINT_RESTORE".into(),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        let leader = Self { pid, threads: Vec::new(), kept: false, first: false };
        ptrace::seize(pid, ptrace::O_SYSGOOD | ptrace::O_EXITKILL)?;
        ptrace::interrupt(pid)?;
        match ptrace::wait(pid)? {
            Stop::Event => Ok(leader),
            stop => Err(ckpt_sys::inject::InjectError::Unexpected { tid: pid, stop }.into()),
        }
    }

    /// Holds a process that is traced and stopped already.
    pub(crate) fn of(pid: i32) -> Self {
        Self { pid, threads: Vec::new(), kept: false, first: false }
    }

    /// A thread of a process that is held as well, and that it ends with.
    pub(crate) fn of_thread(tid: i32) -> Self {
        Self { pid: tid, threads: Vec::new(), kept: true, first: false }
    }

    /// It is the first process of a PID namespace that this process is not in.
    pub(crate) fn is_first(&mut self) {
        self.first = true;
    }

    /// It has ended, and was waited for.
    pub(crate) fn forget(self) {
        self.keep();
    }

    /// It has this thread, too, traced by us.
    pub(crate) fn add_thread(&mut self, tid: i32) {
        self.threads.push(tid);
    }

    /// It lives on.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The first process of our PID namespace cannot be killed from within. It dies with us, its tracer.
        if self.pid == 1 {
            return;
        }
        // We trace it and have not waited for its end, so the pid is its.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        // Its end comes after that of all that are in the namespace, which we are to wait for first.
        if self.first {
            return;
        }
        // The leader's end is told last, and only to a tracer that has waited for the others.
        for &tid in self.threads.iter().chain([&self.pid]) {
            while let Ok(stop) = ptrace::wait(tid) {
                if matches!(stop, Stop::Exited(_) | Stop::Killed(_)) {
                    break;
                }
            }
        }
    }
}

/// How long a pid is waited for that a dead process still has.
#[derive(Debug)]
pub(crate) struct Patience(Instant);

impl Patience {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Waits a little for `pid`, which is taken; an error if it is a living process's, or for too long.
    pub(crate) fn wait_for(&mut self, pid: i32) -> RestoreResult<()> {
        if !is_dead(pid) || self.0.elapsed() > PID_LIMIT {
            return Err(taken(pid));
        }
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

/// Whether nothing but the remains of a process or thread has this id, if anything.
fn is_dead(pid: i32) -> bool {
    Stat::of(pid, pid).map_or(true, |stat| matches!(stat.state, 'Z' | 'X'))
}

fn taken(pid: i32) -> RestoreError {
    let name = proc::read_text(pid, "comm").unwrap_or_default();
    let name = name.trim();
    let stat = Stat::of(pid, pid).ok();
    match stat {
        Some(stat) if matches!(stat.state, 'Z' | 'X') => RestoreError::PidTaken {
            pid,
            holder: format!("the remains of {name}, which its parent (pid {}) does not wait for", stat.ppid),
            remedy: format!("end pid {} or let it wait for its child, and restore again", stat.ppid),
        },
        _ => RestoreError::PidTaken {
            pid,
            holder: if name.is_empty() { "a thread or another process".into() } else { name.to_owned() },
            remedy: "end it, or restore within a new PID namespace (unshare --pid --fork --mount-proc)"
                .into(),
        },
    }
}

/// Where the scratch area fits: free in the process as it is, and in all that will be.
fn scratch_place(pid: i32, mms: &[MmV1]) -> RestoreResult<RemoteAddr> {
    let mut taken: Vec<(u64, u64)> =
        maps::maps(pid)?.iter().map(|mapping| (mapping.start, mapping.end)).collect();
    taken.extend(mms.iter().flat_map(|mm| &mm.vmas).map(|vma| (vma.start, vma.end)));
    // The heap and the stack grow into the space next to them.
    taken.sort_unstable();
    let margin = 1 << 20;
    let mut free_from = HIGHEST.saturating_sub(1 << 30).min(LOWEST + (1 << 30));
    for (start, end) in taken {
        if start >= free_from + SCRATCH_SIZE + 2 * margin {
            break;
        }
        free_from = free_from.max(end);
    }
    if free_from + SCRATCH_SIZE + 2 * margin > HIGHEST {
        return Err(RestoreError::Inconsistent { what: "the address space is full".into() });
    }
    Ok(RemoteAddr::new(free_from + margin))
}

/// Takes hold of a process that is a copy of this one, and rids its leader of what the kernel keeps for the thread that it is a copy of.
pub(crate) fn take_hold<'m>(
    pid: i32,
    memory: &'m ProcessMemory,
    mms: &[MmV1],
) -> RestoreResult<Injector<'m>> {
    const RSEQ_UNREGISTER: u64 = 1;
    let rseq = ptrace::rseq(pid)?;
    let mut injector = Injector::new_at(pid, pid, memory, scratch_place(pid, mms)?)?;
    injector.dies_with_us();
    if let Some(rseq) = rseq {
        let args = [rseq.address, u64::from(rseq.size), RSEQ_UNREGISTER, u64::from(rseq.signature)];
        let outcome = injector.syscall(libc::SYS_rseq, &args)?;
        outcome.map_err(|errno| RestoreError::Remote {
            pid,
            call: "rseq",
            object: format!("pid {pid}"),
            errno,
        })?;
    }
    Ok(injector)
}

/// Lets go of all threads, stopped with their final registers; from now on the process is on its own.
pub(crate) fn let_go(task: &TaskV1, all: &[TaskV1]) -> RestoreResult<()> {
    if task.stopped {
        // The process is held by us. It stops as soon as it is let go.
        let _ = kill(Pid::from_raw(task.pid), stop_signal(task, all));
    }
    for &tid in &task.tids {
        ptrace::set_options(tid, ptrace::O_SYSGOOD)?;
    }
    for &tid in &task.tids {
        match ptrace::detach(tid, 0) {
            Err(error) if !error.is_gone() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The signal that stopped a process. Those of a terminal stop only members of a group that somebody can continue: one of them has a parent in the
/// session, of another group.
fn stop_signal(task: &TaskV1, all: &[TaskV1]) -> Signal {
    let member = |other: &&TaskV1| other.pgid == task.pgid && other.sid == task.sid;
    let is_watched = |member: &TaskV1| {
        let watches =
            |other: &TaskV1| other.pid == member.ppid && other.sid == task.sid && other.pgid != task.pgid;
        all.iter().any(watches)
    };
    match Signal::try_from(task.stop_signal) {
        Ok(signal @ (Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU))
            if all.iter().filter(member).any(is_watched) =>
        {
            signal
        }
        _ => Signal::SIGSTOP,
    }
}

/// The error of a file of /proc that could not be written.
pub(crate) fn write_proc(pid: i32, name: &str, text: &str) -> Result<(), SysError> {
    let path = format!("/proc/{pid}/{name}");
    std::fs::write(&path, text).map_err(|error| SysError::new("write", path, error))
}

impl Builder<'_> {
    /// Runs prctl(2).
    pub(crate) fn prctl(&mut self, call: &'static str, args: &[u64]) -> RestoreResult<u64> {
        let object = format!("thread {}", self.remote.tid());
        self.call(call, &object, libc::SYS_prctl, args)
    }
}
