//! Remote system calls: a stopped thread of another process runs them on our behalf.
//!
//! An [`Injector`] borrows one seized, stopped thread. It maps a scratch area in the target (a code page that also holds a recovery frame,
//! and data pages), and each call is one system call instruction there, run from one ptrace system-call stop to the next: no signal is
//! raised in the target, so its signal actions stay as they are. [`Injector::finish`] unmaps the scratch area and restores registers and
//! signal mask; dropping an injector does the same and only logs what fails.
//!
//! If the tracer dies in the middle, the kernel lets the thread run, and it runs into rt_sigreturn(2) with a frame
//! that holds its own registers and mask (see [`crate::arch::scratch_code`]). The first `mmap` and the last `munmap` run without that net.
use crate::addr::{CodeAddr, RemoteAddr};
use crate::arch::{self, Gpr};
use crate::error::SysError;
use crate::memory::ProcessMemory;
use crate::ptrace::{self, Stop};
use nix::errno::Errno;
use scratch::{CODE_SIZE, DATA_SIZE, FRAME_OFFSET};

mod error;
mod scratch;

pub use error::{InjectError, InjectResult};
pub use scratch::{SCRATCH_SIZE, Scratch, find_syscall_insn, leftovers};

/// How often a call that a signal interrupts is made again.
const RESTARTS_MAX: u32 = 100;

/// Runs system calls in one stopped thread.
#[derive(Debug)]
pub struct Injector<'m> {
    tid: i32,
    pid: i32,
    memory: &'m ProcessMemory,
    saved: Gpr,
    saved_mask: u64,
    scratch: Scratch,
    entry: CodeAddr,
    data_used: u64,
    deferred: Vec<i32>,
    owns_scratch: bool,
    done: bool,
    dies_with_us: bool,
}

/// Signals blocked while calls run: all. ptrace stops need no signal.
const ALL_SIGNALS: u64 = u64::MAX;

impl<'m> Injector<'m> {
    /// Takes hold of stopped thread `tid` of `pid` and maps a scratch area.
    pub fn new(pid: i32, tid: i32, memory: &'m ProcessMemory) -> InjectResult<Self> {
        let entry = find_syscall_insn(pid, memory)?;
        Self::with_entry(pid, tid, memory, entry)
    }

    /// As [`Self::new`], with a known address of a system call instruction.
    pub fn with_entry(pid: i32, tid: i32, memory: &'m ProcessMemory, entry: CodeAddr) -> InjectResult<Self> {
        let nowhere = Scratch { code: CodeAddr::new(0), data: RemoteAddr::new(0) };
        let mut injector = Self::hold(pid, tid, memory, nowhere, entry, true)?;
        injector.map_scratch(None)?;
        Ok(injector)
    }

    /// As [`Self::new`], with the scratch area at a place of the caller's choice: [`SCRATCH_SIZE`] bytes that nothing is mapped in.
    pub fn new_at(pid: i32, tid: i32, memory: &'m ProcessMemory, place: RemoteAddr) -> InjectResult<Self> {
        let entry = find_syscall_insn(pid, memory)?;
        let nowhere = Scratch { code: CodeAddr::new(0), data: RemoteAddr::new(0) };
        let mut injector = Self::hold(pid, tid, memory, nowhere, entry, true)?;
        injector.map_scratch(Some(place))?;
        Ok(injector)
    }

    /// Takes hold of a stopped thread of a process that has a scratch area, which stays mapped afterwards. One thread at a time: the
    /// recovery frame in it is this thread's until [`Self::finish`].
    pub fn on_scratch(pid: i32, tid: i32, memory: &'m ProcessMemory, scratch: Scratch) -> InjectResult<Self> {
        let entry = scratch.code;
        let saved = ptrace::gpr(tid)?;
        let saved_mask = ptrace::sigmask(tid)?;
        let mut injector = Self {
            tid,
            pid,
            memory,
            saved,
            saved_mask,
            scratch,
            entry,
            data_used: 0,
            deferred: Vec::new(),
            owns_scratch: false,
            done: false,
            dies_with_us: false,
        };
        injector.write_frame()?;
        injector.stand_on_recovery()?;
        Ok(injector)
    }

    /// The target is under construction: when this injector is dropped unfinished, nothing is given back.
    pub fn dies_with_us(&mut self) {
        self.dies_with_us = true;
    }

    /// Unmaps a scratch area that a killed tracer left behind.
    pub fn unmap_leftover(&mut self, leftover: Scratch) -> InjectResult<Result<(), Errno>> {
        if leftover.data.get() != 0 {
            let data = self.syscall(libc::SYS_munmap, &[leftover.data.get(), DATA_SIZE])?;
            if data.is_err() {
                return Ok(data.map(drop));
            }
        }
        Ok(self.syscall(libc::SYS_munmap, &[leftover.code.get(), CODE_SIZE])?.map(drop))
    }

    /// The scratch area goes when this injector does.
    pub fn own_scratch(&mut self) {
        self.owns_scratch = true;
    }

    fn hold(
        pid: i32,
        tid: i32,
        memory: &'m ProcessMemory,
        scratch: Scratch,
        entry: CodeAddr,
        owns_scratch: bool,
    ) -> InjectResult<Self> {
        let saved = ptrace::gpr(tid)?;
        let saved_mask = ptrace::sigmask(tid)?;
        ptrace::set_sigmask(tid, ALL_SIGNALS)?;
        Ok(Self {
            tid,
            pid,
            memory,
            saved,
            saved_mask,
            scratch,
            entry,
            data_used: 0,
            deferred: Vec::new(),
            owns_scratch,
            done: false,
            dies_with_us: false,
        })
    }

    fn map_scratch(&mut self, place: Option<RemoteAddr>) -> InjectResult<()> {
        let code = self.map_pages(place, CODE_SIZE, libc::PROT_READ | libc::PROT_EXEC)?;
        // Until the frame is there, the thread stands where the program would go on.
        ptrace::set_gpr(self.tid, &self.saved.settled())?;
        ptrace::set_sigmask(self.tid, self.saved_mask)?;
        self.scratch.code = CodeAddr::new(code);
        self.write_frame()?;
        self.stand_on_recovery()?;
        let place = place.map(|place| place.offset(CODE_SIZE));
        let data = self.map_pages(place, DATA_SIZE, libc::PROT_READ | libc::PROT_WRITE)?;
        self.scratch.data = RemoteAddr::new(data);
        let slot = code + arch::MARK_OFFSET + u64::try_from(arch::SCRATCH_MARK.len()).unwrap_or(0);
        self.memory.write(RemoteAddr::new(slot), &data.to_le_bytes())?;
        Ok(())
    }

    fn map_pages(&mut self, place: Option<RemoteAddr>, bytes: u64, prot: i32) -> InjectResult<u64> {
        let fixed = if place.is_some() { libc::MAP_FIXED_NOREPLACE } else { 0 };
        let flags = u64::from((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed).unsigned_abs());
        let at = place.unwrap_or_default().get();
        let args = [at, bytes, u64::from(prot.unsigned_abs()), flags, u64::MAX, 0];
        self.raw_syscall(libc::SYS_mmap.cast_unsigned(), args)?.map_err(|errno| InjectError::Scratch {
            pid: self.pid,
            bytes,
            errno,
        })
    }

    /// Writes the code page and the frame from which this thread recovers by itself.
    fn write_frame(&mut self) -> InjectResult<()> {
        let code = RemoteAddr::new(self.scratch.code.get());
        let frame = code.get() + FRAME_OFFSET;
        let xstate = ptrace::xstate(self.tid)?;
        // The signal stack is not known without a call; SS_ONSTACK alone is refused by the kernel and so changes nothing.
        let frame_bytes = arch::recovery_frame(frame, &self.saved, &xstate, self.saved_mask, (0, 1, 0));
        self.memory.write(code, &arch::scratch_code(frame, self.scratch.data.get()))?;
        self.memory.write(code.offset(FRAME_OFFSET), &frame_bytes)?;
        self.entry = self.scratch.code;
        Ok(())
    }

    /// From here on the thread recovers by itself, whatever happens to us.
    fn stand_on_recovery(&mut self) -> InjectResult<()> {
        let recovery = self.scratch.code.offset(arch::SYSCALL_INSN_SIZE).get();
        ptrace::set_gpr(self.tid, &self.saved.with_syscall(recovery, 0, [0; 6]))?;
        ptrace::set_sigmask(self.tid, ALL_SIGNALS)?;
        Ok(())
    }

    /// The scratch area.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        self.scratch
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The thread that runs the calls.
    #[must_use]
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// The target's memory.
    #[must_use]
    pub fn memory(&self) -> &'m ProcessMemory {
        self.memory
    }

    /// The registers that the thread stopped with, as [`Self::finish`] will restore them.
    #[must_use]
    pub fn registers(&self) -> &Gpr {
        &self.saved
    }

    /// Changes the registers that [`Self::finish`] will restore.
    pub fn set_registers(&mut self, gpr: Gpr) {
        self.saved = gpr;
    }

    /// The signal mask that [`Self::finish`] will restore.
    #[must_use]
    pub fn sigmask(&self) -> u64 {
        self.saved_mask
    }

    /// Changes the signal mask that [`Self::finish`] will restore.
    pub fn set_sigmask(&mut self, mask: u64) {
        self.saved_mask = mask;
    }

    /// Runs system call `nr` in the thread. The outer result is the injection's, the inner one the call's own.
    pub fn syscall(&mut self, nr: i64, args: &[u64]) -> InjectResult<Result<u64, Errno>> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let result = self.raw_syscall(nr.cast_unsigned(), all);
        self.data_used = 0;
        result
    }

    /// Copies `bytes` into the scratch area, aligned to 16; the address is valid until the next [`Self::syscall`] returns.
    pub fn place(&mut self, bytes: &[u8]) -> InjectResult<RemoteAddr> {
        let at = self.reserve(bytes.len())?;
        self.memory.write(at, bytes)?;
        Ok(at)
    }

    /// Copies a path into the scratch area with its terminating NUL.
    pub fn place_path(&mut self, path: &[u8]) -> InjectResult<RemoteAddr> {
        let mut bytes = path.to_vec();
        bytes.push(0);
        self.place(&bytes)
    }

    /// Sets `len` bytes of the scratch area aside for a call's output; as [`Self::place`], and what it holds can be
    /// read right after the call.
    pub fn reserve(&mut self, len: usize) -> InjectResult<RemoteAddr> {
        let size = u64::try_from(len).unwrap_or(u64::MAX).next_multiple_of(16);
        if size > DATA_SIZE - self.data_used {
            return Err(InjectError::TooLarge { bytes: len });
        }
        let at = self.scratch.data.offset(self.data_used);
        self.data_used += size;
        Ok(at)
    }

    /// Runs the code at `offset` of the scratch page with `first_arg` as its first argument register, up to the
    /// begin of the system call that it ends in.
    pub fn run_scratch_code(&mut self, offset: u64, first_arg: u64) -> InjectResult<()> {
        let ip = self.scratch.code.offset(offset).get();
        let gpr = self.saved.with_syscall(ip, 0, [first_arg, 0, 0, 0, 0, 0]);
        ptrace::set_gpr(self.tid, &gpr)?;
        self.run_to_syscall_stop()?;
        self.run_to_syscall_stop()
    }

    /// Starts system call `nr`, lets it block, and interrupts it: the thread then holds the restart block that the kernel made for it. The
    /// value is what the call returned, a restart error among them.
    pub fn interrupted_syscall(&mut self, nr: u64, args: [u64; 6]) -> InjectResult<i64> {
        ptrace::set_gpr(self.tid, &self.saved.with_syscall(self.entry.get(), nr, args))?;
        self.run_to_syscall_stop()?;
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

    fn raw_syscall(&mut self, nr: u64, args: [u64; 6]) -> InjectResult<Result<u64, Errno>> {
        let mut left = RESTARTS_MAX;
        loop {
            ptrace::set_gpr(self.tid, &self.saved.with_syscall(self.entry.get(), nr, args))?;
            self.run_to_syscall_stop()?;
            self.run_to_syscall_stop()?;
            let gpr = ptrace::gpr(self.tid)?;
            let restart =
                (arch::restart::ERESTART_RESTARTBLOCK..=arch::restart::ERESTARTSYS).contains(&gpr.result());
            if !restart {
                return Ok(gpr.outcome());
            }
            left -= 1;
            if left == 0 {
                return Ok(Err(Errno::EINTR));
            }
        }
    }

    fn run_to_syscall_stop(&mut self) -> InjectResult<()> {
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

    fn gone_or(&mut self, error: SysError) -> InjectError {
        if error.is_gone() {
            self.done = true;
            InjectError::Gone { tid: self.tid }
        } else {
            error.into()
        }
    }

    /// Gives the thread back as it was: stopped, with its own registers and signal mask, in a stop from which the
    /// kernel's restart logic runs, and without the scratch area if this injector mapped it.
    pub fn finish(mut self) -> InjectResult<()> {
        self.restore()
    }

    /// As [`Self::finish`], but leaves the scratch area mapped, for [`Self::on_scratch`].
    pub fn finish_keeping_scratch(mut self) -> InjectResult<Scratch> {
        self.owns_scratch = false;
        self.restore()?;
        Ok(self.scratch)
    }

    fn restore(&mut self) -> InjectResult<()> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        if self.owns_scratch {
            self.unmap_scratch()?;
        }
        self.park()?;
        // The mask first: until the registers are back the thread still recovers by itself.
        ptrace::set_sigmask(self.tid, self.saved_mask)?;
        ptrace::set_gpr(self.tid, &self.saved)?;
        for signal in std::mem::take(&mut self.deferred) {
            // SAFETY: no pointers. The target had taken this signal off its queue for us.
            unsafe { libc::syscall(libc::SYS_tgkill, self.pid, self.tid, signal) };
        }
        Ok(())
    }

    fn unmap_scratch(&mut self) -> InjectResult<()> {
        let unmap = libc::SYS_munmap.cast_unsigned();
        let Scratch { code, data } = self.scratch;
        let mut outcome = Ok(0);
        if data.get() != 0 {
            outcome = self.raw_syscall(unmap, [data.get(), DATA_SIZE, 0, 0, 0, 0])?;
        }
        if code.get() != 0 {
            self.entry = find_syscall_insn(self.pid, self.memory)?;
            outcome = outcome.and(self.raw_syscall(unmap, [code.get(), CODE_SIZE, 0, 0, 0, 0])?);
        }
        if let Err(errno) = outcome {
            tracing::error!(pid = self.pid, %errno, "the scratch area could not be unmapped");
        }
        Ok(())
    }

    /// Brings the thread from a system-call stop to an interrupt stop, which lies within the kernel's signal handling: only
    /// there are registers that say "restart this call" acted upon.
    fn park(&mut self) -> InjectResult<()> {
        ptrace::interrupt(self.tid)?;
        // In case it runs user code for a moment: it is at the scratch page or at a system call instruction with a harmless call.
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

impl Drop for Injector<'_> {
    fn drop(&mut self) {
        if !self.done
            && !self.dies_with_us
            && let Err(error) = self.restore()
        {
            tracing::error!(tid = self.tid, %error, "a thread could not be given back as it was");
        }
    }
}
