//! Every thread of a process is stopped, and runs on again whatever happens.
use crate::error::{CaptureError, CaptureResult};
use crate::{seccomp, userfaultfd, vfork};
use ckpt_sys::SysError;
use ckpt_sys::inject::{self, Scratch};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::{self, stand_in, threads};
use ckpt_sys::ptrace::{self, Stop};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a thread may take to come out of the kernel.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A process all of whose threads are seized and stopped. Dropping it lets them run.
#[derive(Debug)]
pub(crate) struct Freeze {
    pid: i32,
    stopped: Vec<i32>,
    /// The signal that had stopped the process before.
    pub(crate) stopped_by: Option<i32>,
}

/// What is known of threads before they are stopped.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// They have been asked by [`ask`].
    pub(crate) asked: BTreeSet<i32>,
    /// They are no workers of the kernel's.
    pub(crate) ordinary: BTreeSet<i32>,
}

impl Freeze {
    /// Stops all threads of `pid`, those included that are born meanwhile.
    pub(crate) fn begin(pid: i32, known: &Known) -> CaptureResult<Self> {
        let mut freeze = Self { pid, stopped: Vec::new(), stopped_by: None };
        let mut seized: Vec<i32> = Vec::new();
        // A thread that runs may make another; once all that are listed are stopped, nobody can.
        loop {
            let listed = threads::list_beyond(pid, &known.ordinary).map_err(|error| freeze.gone_or(error))?;
            let new: Vec<i32> = listed.into_iter().filter(|tid| !seized.contains(tid)).collect();
            if new.is_empty() {
                break;
            }
            let mut waiting = Vec::new();
            for tid in new {
                seized.push(tid);
                match if known.asked.contains(&tid) { Ok(true) } else { freeze.seize(tid) } {
                    Ok(true) => waiting.push(tid),
                    Ok(false) => {}
                    Err(error) => {
                        freeze.wait_for(&waiting)?;
                        return Err(error);
                    }
                }
            }
            freeze.wait_for(&waiting)?;
        }
        let is_whole = freeze.stopped.contains(&pid)
            || stand_in::look(pid) && freeze.stopped.contains(&stand_in::of(pid));
        if is_whole { Ok(freeze) } else { Err(CaptureError::Exited { pid }) }
    }

    /// The threads, the leader first, or the one that stands in for it.
    pub(crate) fn tids(&self) -> Vec<i32> {
        let mut tids = self.stopped.clone();
        let first = stand_in::of(self.pid);
        tids.sort_unstable_by_key(|tid| (*tid != first, *tid));
        tids
    }

    /// The process.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether `tid` was seized: false when it has just exited.
    fn seize(&self, tid: i32) -> CaptureResult<bool> {
        match ptrace::seize(tid, ptrace::O_SYSGOOD).and_then(|()| ptrace::interrupt(tid)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_gone() => Ok(false),
            Err(error) if error.errno() == Some(Errno::EPERM) => {
                crate::preflight::check_process(self.pid)?;
                // Its main thread exited, or it exits now: then it has no state to be seized in.
                match proc::stat::Stat::of(self.pid, tid) {
                    Ok(stat) if !matches!(stat.state, 'Z' | 'X') => Err(error.into()),
                    _ => Ok(false),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for all of `tids`, also when one of them fails: those that did stop must be let go later.
    fn wait_for(&mut self, tids: &[i32]) -> CaptureResult<()> {
        let mut outcome = Ok(());
        for &tid in tids {
            let limit = if outcome.is_ok() { STOP_LIMIT } else { Duration::ZERO };
            outcome = outcome.and(self.wait_for_one(tid, limit));
        }
        outcome
    }

    fn wait_for_one(&mut self, tid: i32, limit: Duration) -> CaptureResult<()> {
        loop {
            match ptrace::wait_at_most(tid, limit)? {
                Some(stop @ (Stop::Event | Stop::Group(_))) => {
                    if let Stop::Group(signal) = stop {
                        self.stopped_by = Some(signal);
                    }
                    self.stopped.push(tid);
                    return match seccomp::suspend(self.pid, tid) {
                        Err(CaptureError::Sys(error)) if error.is_gone() => Ok(()),
                        outcome => outcome,
                    };
                }
                Some(Stop::Exited(_) | Stop::Killed(_)) => return Ok(()),
                // The signal is delivered as it would have been; the interrupt comes after it.
                Some(Stop::Signal(signal)) => {
                    ptrace::cont(tid, signal).map_err(|error| self.gone_or(error))?
                }
                Some(Stop::Syscall | Stop::Other(_)) => {
                    ptrace::cont(tid, 0).map_err(|error| self.gone_or(error))?;
                }
                None => return Err(self.stuck(tid)),
            }
        }
    }

    fn stuck(&self, tid: i32) -> CaptureError {
        if let Some(child) = vfork::child(self.pid, tid) {
            return vfork::refused(self.pid, tid, child);
        }
        if let Some(error) = userfaultfd::waiting(self.pid, tid) {
            return error;
        }
        stuck(self.pid, tid)
    }

    fn gone_or(&self, error: SysError) -> CaptureError {
        if error.is_gone() { CaptureError::Exited { pid: self.pid } } else { error.into() }
    }

    /// Lets all threads run on.
    pub(crate) fn thaw(mut self) {
        self.release();
    }

    fn release(&mut self) {
        for tid in std::mem::take(&mut self.stopped) {
            match ptrace::detach(tid, 0) {
                Err(error) if !error.is_gone() => {
                    tracing::error!(tid, %error, "a thread could not be let go")
                }
                _ => {}
            }
        }
    }
}

fn stuck(pid: i32, tid: i32) -> CaptureError {
    let place = proc::read_text(pid, &format!("task/{tid}/wchan")).unwrap_or_default();
    let place = if place.len() > 1 { format!(" (in {place})") } else { String::new() };
    CaptureError::Stuck { pid, tid, place }
}

/// How often to look whether processes that are to end are at work on it.
const LOOK: Duration = Duration::from_millis(100);

fn is_running(pid: i32, tid: i32) -> bool {
    proc::stat::Stat::of(pid, tid).is_ok_and(|stat| stat.state == 'R')
}

/// Kills processes where they stand, the first ones first, and waits until they are gone but for their parents' waits.
pub(crate) fn kill_all(freezes: Vec<Freeze>) -> CaptureResult<()> {
    let mut outcome = Ok(());
    let mut left = Vec::new();
    for mut freeze in freezes {
        // The process is stopped by us, so the pid is still its.
        match kill(Pid::from_raw(freeze.pid), Signal::SIGKILL) {
            Ok(()) => left.extend(freeze.stopped.drain(..).map(|tid| (freeze.pid, tid))),
            // It is let go with its end here.
            Err(errno) => {
                let error = SysError::new("kill", format!("pid {}", freeze.pid), errno);
                outcome = outcome.and(Err(error.into()));
            }
        }
    }
    // In no order: the first process of a PID namespace ends when everybody there is gone, its own other threads included, and a leader's end is told only to
    // a tracer that has waited for the others.
    let (mut ran, mut looked) = (Instant::now(), Instant::now());
    loop {
        left.retain(|(_, tid)| match ptrace::try_wait(*tid) {
            Ok(Some(Stop::Exited(_) | Stop::Killed(_))) | Err(_) => false,
            Ok(_) => true,
        });
        let Some((pid, tid)) = left.first() else { return outcome };
        // To give much memory back takes its time. One that waits in the kernel ends when the kernel lets it.
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            if left.iter().any(|(pid, tid)| is_running(*pid, *tid)) {
                ran = looked;
            }
        }
        if ran.elapsed() > STOP_LIMIT {
            return outcome.and(Err(stuck(*pid, *tid)));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        self.release();
    }
}

/// Asks all threads of `pids` to stop, without waiting for them: they may be frozen. The threads. Those of `ordinary` are known to be no workers of the kernel's.
pub(crate) fn ask(pids: &[i32], ordinary: &BTreeSet<i32>) -> CaptureResult<BTreeSet<i32>> {
    let mut asked = Vec::new();
    for &pid in pids {
        let freeze = Freeze { pid, stopped: Vec::new(), stopped_by: None };
        for tid in threads::list_beyond(pid, ordinary).unwrap_or_default() {
            match freeze.seize(tid) {
                Ok(true) => asked.push((pid, tid)),
                Ok(false) => {}
                Err(error) => {
                    let_go(&asked);
                    return Err(error);
                }
            }
        }
    }
    Ok(asked.into_iter().map(|(_, tid)| tid).collect())
}

/// Lets threads run on that have been asked to stop: only one that has stopped can be let go.
fn let_go(asked: &[(i32, i32)]) {
    for of_one in asked.chunk_by(|one, other| one.0 == other.0) {
        let mut freeze = Freeze { pid: of_one[0].0, stopped: Vec::new(), stopped_by: None };
        let tids: Vec<i32> = of_one.iter().map(|(_, tid)| *tid).collect();
        if let Err(error) = freeze.wait_for(&tids) {
            tracing::error!(%error, "a thread could not be let go");
        }
    }
}

/// As [`Freeze::begin`], but not before every thread has come out of what a killed capture left in the process: there it has
/// registers of ours. Also gives the areas that are left and can go: a signal handler may have been called from one.
pub(crate) fn begin_recovered(pid: i32, mut known: &Known) -> CaptureResult<(Freeze, Vec<Scratch>)> {
    const NONE: &Known = &Known { asked: BTreeSet::new(), ordinary: BTreeSet::new() };
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let freeze = Freeze::begin(pid, std::mem::replace(&mut known, NONE))?;
        let memory = ProcessMemory::open(pid)?;
        let mut leftovers = inject::leftovers(pid, &memory)?;
        let mut inside = None;
        for tid in freeze.tids() {
            let gpr = ptrace::gpr(tid)?;
            if inject::is_recovering(&gpr, &leftovers, &memory) {
                inside = Some(tid);
                break;
            }
            leftovers.retain(|leftover| !leftover.is_returned_to(&gpr, &memory));
        }
        match inside {
            None => return Ok((freeze, leftovers)),
            Some(tid) if begin.elapsed() > STOP_LIMIT => return Err(freeze.stuck(tid)),
            Some(_) => freeze.thaw(),
        }
        // It comes out as soon as it runs, which may take a while on a busy machine.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
