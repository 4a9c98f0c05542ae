//! From one stop of the thread to the next.
use super::{ALL_SIGNALS, InjectError, InjectResult, Injector};
use crate::arch;
use crate::error::SysError;
use crate::fault;
use crate::ptrace::{self, Stop};
use nix::errno::Errno;

/// How often a call that a signal interrupts is made again.
const RESTARTS_MAX: u32 = 100;

impl Injector<'_> {
    /// Runs the code at `offset` of the scratch page with `first_arg` as its first argument register, up to the
    /// begin of the system call that it ends in.
    pub fn run_scratch_code(&mut self, offset: u64, first_arg: u64) -> InjectResult<()> {
        self.hold_still()?;
        let ip = self.scratch.code.offset(offset).get();
        let gpr = self.saved.with_syscall(ip, 0, [first_arg, 0, 0, 0, 0, 0]);
        ptrace::set_gpr(self.tid, &gpr)?;
        self.run_to_syscall_stop()?;
        self.run_to_syscall_stop()
    }

    /// Starts system call `nr`, lets it block, and interrupts it: the thread then holds the restart block that the kernel made for it. The
    /// value is what the call returned, a restart error among them.
    pub fn interrupted_syscall(&mut self, nr: u64, args: [u64; 6]) -> InjectResult<i64> {
        self.hold_still()?;
        ptrace::set_gpr(self.tid, &self.saved.with_syscall(self.entry.get(), nr, args))?;
        self.run_to_syscall_stop()?;
        self.parked = false;
        ptrace::cont_to_syscall(self.tid, 0)?;
        // The interrupt makes a call that would sleep return; one that does not sleep has returned by itself.
        ptrace::interrupt(self.tid)?;
        let stop = self.wait_filtered()?;
        self.data_used = 0;
        if stop != Stop::Syscall && stop != Stop::Event {
            return Err(InjectError::Unexpected { tid: self.tid, stop });
        }
        Ok(ptrace::gpr(self.tid)?.result())
    }

    pub(super) fn raw_syscall(&mut self, nr: u64, args: [u64; 6]) -> InjectResult<Result<u64, Errno>> {
        self.hold_still()?;
        let mut registers = self.saved.with_syscall(self.entry.get(), nr, args);
        if let Some(laid) = &self.laid {
            registers = registers.with_stack(laid.sp);
        }
        let mut left = RESTARTS_MAX;
        loop {
            ptrace::set_gpr(self.tid, &registers)?;
            self.point(nr, "set");
            self.run_to_syscall_stop()?;
            self.point(nr, "begun");
            self.run_to_syscall_stop()?;
            self.point(nr, "ended");
            let gpr = ptrace::gpr(self.tid)?;
            if !arch::restart::is_restart(gpr.result()) {
                return Ok(gpr.outcome());
            }
            left -= 1;
            if left == 0 {
                return Ok(Err(Errno::EINTR));
            }
        }
    }

    /// Before the thread makes a call.
    fn hold_still(&mut self) -> InjectResult<()> {
        if self.stands { self.block(ALL_SIGNALS) } else { self.stand() }
    }

    /// In the calls that map and unmap the scratch area a test may make us die.
    fn point(&self, nr: u64, step: &str) {
        if self.laid.is_some() {
            let maps = nr == libc::SYS_mmap.cast_unsigned();
            fault::point(if maps { "inject.map" } else { "inject.unmap" }, step);
        }
    }

    fn run_to_syscall_stop(&mut self) -> InjectResult<()> {
        self.parked = false;
        loop {
            ptrace::cont_to_syscall(self.tid, 0).map_err(|error| self.gone_or(error))?;
            match self.wait_filtered()? {
                Stop::Syscall => return Ok(()),
                // Left over from a freeze; nothing of the target's.
                Stop::Event => {}
                stop => return Err(InjectError::Unexpected { tid: self.tid, stop }),
            }
        }
    }

    /// Waits for a stop; signals that cannot be blocked (SIGSTOP) are kept for later.
    fn wait_filtered(&mut self) -> InjectResult<Stop> {
        loop {
            match ptrace::wait(self.tid)? {
                Stop::Exited(_) | Stop::Killed(_) => {
                    self.done = true;
                    return Err(InjectError::Gone { tid: self.tid });
                }
                Stop::Signal(signal) => {
                    self.deferred.push(signal);
                    ptrace::cont_to_syscall(self.tid, 0)?;
                }
                Stop::Group(_) => ptrace::cont_to_syscall(self.tid, 0)?,
                stop => return Ok(stop),
            }
        }
    }

    pub(super) fn gone_or(&mut self, error: SysError) -> InjectError {
        if error.is_gone() {
            self.done = true;
            InjectError::Gone { tid: self.tid }
        } else {
            error.into()
        }
    }

    /// Brings the thread from a system-call stop to an interrupt stop, which lies within the kernel's signal handling: only
    /// there are registers that say "restart this call" acted upon.
    pub(super) fn park(&mut self) -> InjectResult<()> {
        ptrace::interrupt(self.tid)?;
        // In case it runs user code for a moment: that leads it back to where it was.
        ptrace::cont(self.tid, 0).map_err(|error| self.gone_or(error))?;
        loop {
            match ptrace::wait(self.tid)? {
                // A process that a signal has stopped reports this stop as one of its group.
                Stop::Event | Stop::Group(_) => return Ok(()),
                Stop::Exited(_) | Stop::Killed(_) => return Err(InjectError::Gone { tid: self.tid }),
                Stop::Signal(signal) => {
                    self.deferred.push(signal);
                    ptrace::cont(self.tid, 0)?;
                }
                _ => ptrace::cont(self.tid, 0)?,
            }
        }
    }
}
