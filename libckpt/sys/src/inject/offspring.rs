//! A copy-on-write clone of the target's memory: a process that never runs anything but system calls of ours.
//!
//! The program is not to see it. A child of the program's would be told of by wait(2), and what is open in it would stay open when the program closes it. So a helper
//! is made first, which shares the program's memory and ends at once: it gives up the descriptors, and makes the clone, whose parent then is whoever adopts
//! orphans. Both are born traced (CLONE_PTRACE) and stop before their first instruction. Should the tracer die, the kernel kills those that it has taken hold of
//! (PTRACE_O_EXITKILL); one that it has not yet ends by itself, for that is the code it was born in front of, and the program's thread waits for the helper on its way
//! back, so that no zombie is left (`clone_code` of the scratch page).
use super::{InjectError, InjectResult, Injector};
use crate::addr::CodeAddr;
use crate::arch::{self, Gpr};
use crate::fault;
use crate::ptrace::{self, Stop};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a call that a signal interrupts is made again.
const RESTARTS_MAX: u32 = 100;
const CLOSE_RANGE_UNSHARE: u64 = 1 << 1;

/// A stopped process that makes system calls of ours, and is killed when this is dropped, or with its tracer.
#[derive(Debug)]
pub struct Offspring {
    pid: i32,
    born: Gpr,
    entry: CodeAddr,
    /// It has been waited for.
    gone: bool,
}

impl Offspring {
    /// Takes hold of a process that was born traced, by its pid, which has to be the same for us as for its maker.
    fn take(pid: i32, entry: CodeAddr) -> InjectResult<Self> {
        // From here on it is killed if it is not what it should be.
        let born = Gpr::from_words([0; arch::GPR_WORDS]);
        let mut offspring = Self { pid, born, entry, gone: false };
        match offspring.wait()? {
            Stop::Event => {}
            stop => return Err(InjectError::Unexpected { tid: pid, stop }),
        }
        ptrace::set_options(pid, ptrace::O_SYSGOOD | ptrace::O_EXITKILL)?;
        offspring.born = ptrace::gpr(pid)?;
        Ok(offspring)
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Runs system call `nr` in it. The outer result is the injection's, the inner one the call's own.
    pub fn syscall(&mut self, nr: i64, args: &[u64]) -> InjectResult<Result<u64, Errno>> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let registers = self.born.with_syscall(self.entry.get(), nr.cast_unsigned(), all);
        for _ in 0..RESTARTS_MAX {
            ptrace::set_gpr(self.pid, &registers)?;
            self.run_to_syscall_stop()?;
            self.run_to_syscall_stop()?;
            let gpr = ptrace::gpr(self.pid)?;
            if !arch::restart::is_restart(gpr.result()) {
                return Ok(gpr.outcome());
            }
        }
        Ok(Err(Errno::EINTR))
    }

    /// Signals are not for it.
    fn run_to_syscall_stop(&mut self) -> InjectResult<()> {
        loop {
            ptrace::cont_to_syscall(self.pid, 0)?;
            match self.wait()? {
                Stop::Syscall => return Ok(()),
                Stop::Event | Stop::Group(_) | Stop::Signal(_) => {}
                stop => return Err(InjectError::Unexpected { tid: self.pid, stop }),
            }
        }
    }

    fn wait(&mut self) -> InjectResult<Stop> {
        match ptrace::wait(self.pid)? {
            Stop::Exited(_) | Stop::Killed(_) => {
                self.gone = true;
                Err(InjectError::Gone { tid: self.pid })
            }
            stop => Ok(stop),
        }
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        if !self.gone {
            // We have not waited for it, so the pid is its own.
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
        while !self.gone && self.wait().is_ok() {}
    }
}

impl Injector<'_> {
    /// Makes a copy-on-write clone of the target's memory; see the module. The target has to be in our PID namespace, to make its children there, and to have no filter of system calls,
    /// which would be in force should we die meanwhile. The inner result is the outcome for the clone; without it the target is as it was, too.
    ///
    /// # Errors
    /// As [`Self::syscall`]'s: the target itself is gone.
    pub fn clone_memory(&mut self) -> InjectResult<Result<Offspring, Errno>> {
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_PTRACE;
        // Until the helper is gone, the thread stands where it would wait for it.
        self.entry = self.scratch.code.offset(arch::CLONE_OFFSET);
        let made = self.syscall(libc::SYS_clone, &[u64::from(flags.unsigned_abs())]);
        self.entry = self.scratch.code;
        let helper = match made? {
            Ok(helper) => helper,
            Err(errno) => return Ok(Err(errno)),
        };
        fault::point("clone", "made");
        let entry = self.scratch.code.offset(arch::OFFSPRING_OFFSET);
        let clone = clone_from(i32::try_from(helper).unwrap_or(0), entry);
        fault::point("clone", "orphaned");
        let options = (libc::__WALL | libc::WNOHANG).unsigned_abs();
        let waited = self.syscall(libc::SYS_wait4, &[helper, 0, u64::from(options), 0])?;
        if waited != Ok(helper) {
            tracing::error!(pid = self.pid, helper, ?waited, "a helper process is left");
        }
        Ok(clone.unwrap_or_else(|error| {
            // Somebody has killed one of the two.
            tracing::debug!(pid = self.pid, %error, "no clone");
            Err(Errno::ECHILD)
        }))
    }
}

/// Has the helper make the clone; the helper is gone then.
fn clone_from(helper: i32, entry: CodeAddr) -> InjectResult<Result<Offspring, Errno>> {
    let mut helper = Offspring::take(helper, entry)?;
    fault::point("clone", "helper");
    let apart = [0, u64::from(u32::MAX), CLOSE_RANGE_UNSHARE];
    if let Err(errno) = helper.syscall(libc::SYS_close_range, &apart)? {
        return Ok(Err(errno));
    }
    let flags = u64::from(libc::CLONE_PTRACE.unsigned_abs());
    match helper.syscall(libc::SYS_clone, &[flags])? {
        Ok(pid) => {
            fault::point("clone", "born");
            Offspring::take(i32::try_from(pid).unwrap_or(0), entry).map(Ok)
        }
        Err(errno) => Ok(Err(errno)),
    }
}
