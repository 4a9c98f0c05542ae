//! Remote system calls: a stopped thread of another process runs them on our behalf.
//!
//! An [`Injector`] borrows one seized, stopped thread. It maps a scratch area in the target (a code page that also holds a recovery frame,
//! and data pages; several threads have a lane each), and each call is one system call instruction there, run from one ptrace system-call stop to the next: no signal is
//! raised in the target, so its signal actions stay as they are. [`Injector::finish`] unmaps the scratch area and restores registers and
//! signal mask; dropping an injector does the same and only logs what fails.
//!
//! If the tracer dies in the middle, the kernel lets the thread run, and it runs into rt_sigreturn(2) with a frame
//! that holds its own registers and mask (see [`crate::arch::scratch_code`]). For the `mmap` and the `munmap` of the scratch area itself that frame
//! stands on the main stack, and the thread gets there through the program's own text; in the rare target without a `[stack]` or without such text,
//! these two calls run without.
use crate::addr::{CodeAddr, RemoteAddr};
use crate::arch::Gpr;
use crate::error::SysResult;
use crate::fault;
use crate::memory::ProcessMemory;
use crate::proc::maps;
use crate::ptrace;
use nix::errno::Errno;
use stack::Laid;
use std::borrow::Cow;

mod area;
mod batch;
mod error;
mod gadgets;
mod offspring;
mod run;
mod scratch;
mod stack;

pub use batch::{Answers, Batch, Begun, Call, Slot, meaningless_signal};
pub use error::{InjectError, InjectResult};
pub use gadgets::Gadgets;
pub use offspring::Offspring;
pub use scratch::{LANES, NOTE_SIZE, SCRATCH_SIZE, Scratch, leftovers};
pub use stack::is_recovering;

/// What is known of a target before its thread is taken hold of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints {
    /// Instructions that were searched for before the thread was stopped. Are they gone by now, others are searched for.
    pub gadgets: Option<Gadgets>,
    /// The system call behind a restart_syscall(2) that the thread was stopped in.
    pub call: Option<u64>,
}

/// A stopped thread as it was read.
#[derive(Debug)]
pub struct Standing<'a> {
    /// Thread.
    pub tid: i32,
    /// Its registers.
    pub gpr: Gpr,
    /// Its blocked signals.
    pub sigmask: u64,
    /// Its extended state.
    pub xstate: Cow<'a, [u8]>,
}

impl Standing<'_> {
    fn read(tid: i32) -> SysResult<Self> {
        let (gpr, sigmask) = (ptrace::gpr(tid)?, ptrace::sigmask(tid)?);
        Ok(Self { tid, gpr, sigmask, xstate: ptrace::xstate(tid)?.into() })
    }
}

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
    /// What holds the thread while there is no scratch area.
    laid: Option<Laid>,
    data_used: u64,
    deferred: Vec<i32>,
    owns_scratch: bool,
    done: bool,
    dies_with_us: bool,
    /// The signal that a batch ends with.
    batch_end: Option<i32>,
    /// The signal that ends the batch that the thread is at.
    running: Option<i32>,
    /// Pid and thread id as the target itself knows them.
    own_ids: (i32, i32),
    /// The thread is in a stop within the kernel's signal handling.
    parked: bool,
    /// It has registers of ours.
    stands: bool,
    /// Its blocked signals.
    mask: u64,
}

/// Signals blocked while calls run: all. ptrace stops need no signal.
const ALL_SIGNALS: u64 = u64::MAX;

impl<'m> Injector<'m> {
    /// Takes hold of stopped thread `tid` of `pid` and maps a scratch area.
    pub fn new(pid: i32, tid: i32, memory: &'m ProcessMemory) -> InjectResult<Self> {
        Self::with_hints(pid, tid, memory, Hints::default())
    }

    /// As [`Self::new`], with what is known already.
    pub fn with_hints(pid: i32, tid: i32, memory: &'m ProcessMemory, hints: Hints) -> InjectResult<Self> {
        let mappings = maps::maps(pid)?;
        let place = scratch::free_place(&mappings).ok_or(InjectError::NoPlace { pid })?;
        let mut injector = Self::hold(pid, tid, memory, Scratch::at(place.get()))?;
        injector.find_net(&mappings, hints)?;
        injector.map_scratch()?;
        Ok(injector)
    }

    /// As [`Self::new`], with the scratch area at a place of the caller's choice: [`SCRATCH_SIZE`] bytes that nothing is mapped in.
    /// For processes that die with their tracer: while the area is mapped and unmapped, nothing else would hold the thread.
    pub fn new_at(pid: i32, tid: i32, memory: &'m ProcessMemory, place: RemoteAddr) -> InjectResult<Self> {
        let mut injector = Self::hold(pid, tid, memory, Scratch::at(place.get()))?;
        injector.map_scratch()?;
        Ok(injector)
    }

    /// Takes hold of a stopped thread of a process that has a scratch area, which stays mapped afterwards. One thread at a time for each lane: the
    /// recovery frame in it is this thread's until [`Self::finish`].
    pub fn on_scratch(pid: i32, tid: i32, memory: &'m ProcessMemory, scratch: Scratch) -> InjectResult<Self> {
        let mut injector = Self::stand_with(pid, Standing::read(tid)?, memory, scratch)?;
        injector.parked = false;
        injector.stand()?;
        Ok(injector)
    }

    /// As [`Self::on_scratch`], of a thread that has been read and has not run since it was interrupted. It has its own registers until the first call.
    pub fn stand_with(
        pid: i32,
        thread: Standing<'_>,
        memory: &'m ProcessMemory,
        scratch: Scratch,
    ) -> InjectResult<Self> {
        let Standing { tid, gpr, sigmask, xstate } = thread;
        let mut injector = Self::hold_with(pid, tid, memory, scratch, gpr, sigmask);
        injector.lay_frame(&xstate)?;
        injector.parked = true;
        Ok(injector)
    }

    fn hold(pid: i32, tid: i32, memory: &'m ProcessMemory, scratch: Scratch) -> InjectResult<Self> {
        let (gpr, sigmask) = (ptrace::gpr(tid)?, ptrace::sigmask(tid)?);
        Ok(Self::hold_with(pid, tid, memory, scratch, gpr, sigmask))
    }

    fn hold_with(
        pid: i32,
        tid: i32,
        memory: &'m ProcessMemory,
        scratch: Scratch,
        saved: Gpr,
        saved_mask: u64,
    ) -> Self {
        Self {
            tid,
            pid,
            memory,
            saved,
            saved_mask,
            entry: scratch.code,
            scratch,
            laid: None,
            data_used: 0,
            deferred: Vec::new(),
            owns_scratch: false,
            done: false,
            dies_with_us: false,
            batch_end: None,
            running: None,
            own_ids: (pid, tid),
            parked: false,
            stands: false,
            mask: saved_mask,
        }
    }

    /// The target is under construction: when this injector is dropped unfinished, nothing is given back.
    pub fn dies_with_us(&mut self) {
        self.dies_with_us = true;
    }

    /// Unmaps a scratch area that a killed tracer left behind.
    pub fn unmap_leftover(&mut self, leftover: Scratch) -> InjectResult<Result<(), Errno>> {
        Ok(self.syscall(libc::SYS_munmap, &[leftover.start.get(), SCRATCH_SIZE])?.map(drop))
    }

    /// The scratch area goes when this injector does.
    pub fn own_scratch(&mut self) {
        self.owns_scratch = true;
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
        if size > self.scratch.data_size - self.data_used {
            return Err(InjectError::TooLarge { bytes: len });
        }
        let at = self.scratch.data().offset(self.data_used);
        self.data_used += size;
        Ok(at)
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
        self.await_batch()?;
        if self.owns_scratch {
            self.unmap_scratch()?;
        }
        if !self.stands {
            return Ok(());
        }
        if !self.parked {
            self.park()?;
        }
        // The mask first: until the registers are back the thread still recovers by itself.
        self.block(self.saved_mask)?;
        fault::point("inject", "mask");
        ptrace::set_gpr(self.tid, &self.saved)?;
        for signal in std::mem::take(&mut self.deferred) {
            // SAFETY: no pointers. The target had taken this signal off its queue for us.
            unsafe { libc::syscall(libc::SYS_tgkill, self.pid, self.tid, signal) };
        }
        self.lift_net();
        Ok(())
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
