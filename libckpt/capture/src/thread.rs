//! One thread: registers and all that the kernel keeps for it.
use crate::controls;
use crate::creds::capture_creds;
use crate::error::{CaptureError, CaptureResult};
use crate::interrupted::{Earlier, Interrupted, LastRan};
use crate::seccomp::Filters;
use crate::sighand::capture_pending;
use ckpt_image::record::{RegistersV1, RestartV1, RseqV1, SchedV1, ThreadV1};
use ckpt_sys::arch::Gpr;
use ckpt_sys::inject::{self, Answers, Batch, Standing};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::status::{OpenStatus, Status};
use ckpt_sys::ptrace::{self, Queue, RseqConfiguration};
use ckpt_sys::{RemoteAddr, SysError, raw, sched};
use std::collections::HashMap;

const PR_GET_TID_ADDRESS: u64 = 40;
const PR_GET_PDEATHSIG: u64 = 2;
const PR_GET_SECUREBITS: u64 = 27;
const PR_GET_NAME: u64 = 16;
const PR_GET_TIMERSLACK: u64 = 30;
/// Bytes of a thread's name with its NUL.
const NAME_SIZE: usize = 16;
/// Offset of `rseq_cs` in `struct rseq`.
const RSEQ_CS: u64 = 8;

/// What is read of a stopped thread before anything is run in it.
#[derive(Debug)]
pub(crate) struct Still {
    /// As they are stored.
    gpr: Gpr,
    /// As the thread has them.
    own: Gpr,
    xstate: Vec<u8>,
    sigmask: u64,
    restart: Option<RestartV1>,
    rseq: Option<RseqConfiguration>,
    /// Its status before anything was run in it.
    pub(crate) status: Status,
}

impl Still {
    /// Reads stopped thread `tid`. What the kernel would do to its registers on the way back to the program is done here.
    pub(crate) fn read(tid: i32, memory: &ProcessMemory, view: &View<'_>) -> CaptureResult<Self> {
        controls::check_dispatch(view.pid, tid)?;
        let mut gpr = ptrace::gpr(tid)?;
        let rseq = ptrace::rseq(tid)?;
        if let Some(rseq) = &rseq
            && abort_critical_section(memory, rseq, &mut gpr)?
        {
            ptrace::set_gpr(tid, &gpr)?;
        }
        let sigmask = ptrace::sigmask(tid)?;
        let waits = |pending: u64| pending & !sigmask != 0;
        let status = match view.statuses.get(&tid) {
            Some(open) => open.read()?,
            None => Status::of(view.pid, tid)?,
        };
        let interrupted = Interrupted {
            pid: view.pid,
            tid,
            memory,
            last_ran: view.last_ran,
            now: view.now,
            earlier: view.earlier.get(&tid).cloned(),
            signal_waits: waits(status.mask("SigPnd")? | status.mask("ShdPnd")?),
        };
        let stopped_with = gpr;
        let restart = interrupted.resolve(&mut gpr);
        let own = if restart.is_none() { gpr } else { stopped_with };
        if own != stopped_with {
            // A wait that the freeze made return EINTR goes on waiting in the live program, too.
            ptrace::set_gpr(tid, &own)?;
        }
        Ok(Self { gpr, own, xstate: ptrace::xstate(tid)?, sigmask, restart, rseq, status })
    }

    /// What an injector has to know of the thread `tid` that this is.
    pub(crate) fn standing(&self, tid: i32) -> Standing<'_> {
        Standing { tid, gpr: self.own, sigmask: self.sigmask, xstate: self.xstate.as_slice().into() }
    }

    /// A signal that means nothing to the thread. None as well for one with a filter of system calls: what is left of a batch when the capture is killed would be
    /// subject to it.
    pub(crate) fn meaningless_signal(&self) -> Option<i32> {
        if self.status.number("Seccomp").unwrap_or(0) != 0 {
            return None;
        }
        let taken = ["SigCgt", "SigPnd", "ShdPnd"].map(|line| self.status.mask(line).unwrap_or(u64::MAX));
        inject::meaningless_signal(taken.iter().fold(self.sigmask, |all, mask| all | mask))
    }

    /// The system call that the thread goes on with by restart_syscall(2).
    pub(crate) fn call(&self) -> Option<u64> {
        self.restart.as_ref().map(|restart| restart.nr)
    }

    /// The system call that the thread was stopped in: number and first argument.
    pub(crate) fn interrupted_call(&self) -> Option<(u64, u64)> {
        Some((self.gpr.interrupted_syscall()?, self.gpr.syscall_args()[0]))
    }

    /// The extended state.
    pub(crate) fn xstate(&self) -> &[u8] {
        &self.xstate
    }
}

/// What is known of all threads when they are read.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// Process.
    pub(crate) pid: i32,
    /// When they last ran.
    pub(crate) last_ran: &'a LastRan,
    /// Their status, by thread; of those that are not there it has to be looked for.
    pub(crate) statuses: &'a HashMap<i32, OpenStatus>,
    /// CLOCK_MONOTONIC at the freeze.
    pub(crate) now: i64,
    /// What the parent checkpoint says of their calls.
    pub(crate) earlier: &'a HashMap<i32, Earlier>,
}

/// A thread that was stopped within a restartable sequence goes on at its abort handler, as after any preemption. The kernel does that when
/// the thread returns to the program, but not once it has run our system calls elsewhere. Whether registers changed.
fn abort_critical_section(
    memory: &ProcessMemory,
    rseq: &RseqConfiguration,
    gpr: &mut Gpr,
) -> CaptureResult<bool> {
    if gpr.interrupted_syscall().is_some() {
        return Ok(false);
    }
    let slot = RemoteAddr::new(rseq.address).offset(RSEQ_CS);
    let descriptor = memory.read_u64(slot)?;
    if descriptor == 0 {
        return Ok(false);
    }
    // struct rseq_cs: version and flags, start_ip, post_commit_offset, abort_ip.
    let descriptor = RemoteAddr::new(descriptor);
    let start = memory.read_u64(descriptor.offset(8))?;
    let length = memory.read_u64(descriptor.offset(16))?;
    if gpr.rip.wrapping_sub(start) >= length {
        return Ok(false);
    }
    gpr.rip = memory.read_u64(descriptor.offset(24))?;
    memory.write(slot, &0u64.to_ne_bytes())?;
    Ok(true)
}

/// What only the thread itself can tell.
#[derive(Debug)]
pub(crate) struct Told {
    securebits: u32,
    altstack: (u64, u32, u64),
    clear_child_tid: u64,
    pdeathsig: i32,
    comm: Vec<u8>,
    timer_slack_ns: u64,
}

/// Asks a thread of process `pid` for what only it can tell.
pub(crate) fn ask_thread(
    pid: i32,
    batch: &mut Batch,
) -> impl FnOnce(&Answers) -> CaptureResult<Told> + use<> {
    // stack_t: address, flags (int), size. The thread's own stack pointer counts for SS_ONSTACK, which is not stored.
    const SS_ONSTACK: u64 = 1;
    let (stack, address, signal) = (batch.reserve(24), batch.reserve(8), batch.reserve(8));
    let name = batch.reserve(NAME_SIZE);
    let prctl = libc::SYS_prctl;
    let securebits = batch.call(prctl, &[PR_GET_SECUREBITS]);
    let altstack = batch.call(libc::SYS_sigaltstack, &[0, stack.address()]);
    let tid_address = batch.call(prctl, &[PR_GET_TID_ADDRESS, address.address()]);
    let pdeathsig = batch.call(prctl, &[PR_GET_PDEATHSIG, signal.address()]);
    let get_name = batch.call(prctl, &[PR_GET_NAME, name.address()]);
    let timer_slack = batch.call(prctl, &[PR_GET_TIMERSLACK]);
    move |answers| {
        let done =
            |asked, call| answers.outcome(asked).map_err(|errno| CaptureError::Remote { pid, call, errno });
        let securebits = done(securebits, "prctl(PR_GET_SECUREBITS)")?;
        done(altstack, "sigaltstack")?;
        done(tid_address, "prctl(PR_GET_TID_ADDRESS)")?;
        done(pdeathsig, "prctl(PR_GET_PDEATHSIG)")?;
        done(get_name, "prctl(PR_GET_NAME)")?;
        let comm = answers.bytes(name).split(|byte| *byte == 0).next().unwrap_or_default();
        let flags = answers.word(stack, 1) & 0xffff_ffff & !SS_ONSTACK;
        Ok(Told {
            securebits: u32::try_from(securebits).unwrap_or(0),
            altstack: (answers.word(stack, 0), u32::try_from(flags).unwrap_or(0), answers.word(stack, 2)),
            clear_child_tid: answers.word(address, 0),
            pdeathsig: i32::try_from(answers.word(signal, 0) & 0xff).unwrap_or(0),
            comm: comm.to_vec(),
            timer_slack_ns: done(timer_slack, "prctl(PR_GET_TIMERSLACK)")?,
        })
    }
}

/// The record of stopped thread `tid` of process `pid`, which has `told` what it alone knows.
pub(crate) fn capture_thread(
    pid: i32,
    tid: i32,
    still: Still,
    told: Told,
    filters: &mut Filters,
) -> CaptureResult<ThreadV1> {
    let status = still.status;
    let attributes = sched::attributes(tid)?;
    Ok(ThreadV1 {
        pid,
        tid,
        registers: RegistersV1::X86_64 { gpr: still.gpr.to_words(), xstate: still.xstate },
        restart: still.restart,
        sigmask: still.sigmask,
        pending: capture_pending(tid, Queue::Private)?,
        altstack: told.altstack,
        robust_list: robust_list(tid)?,
        rseq: still.rseq.map(|rseq| RseqV1 {
            address: rseq.address,
            size: rseq.size,
            signature: rseq.signature,
            flags: rseq.flags,
        }),
        clear_child_tid: told.clear_child_tid,
        comm: told.comm,
        sched: SchedV1 {
            policy: attributes.policy,
            flags: attributes.flags,
            nice: attributes.nice,
            priority: attributes.priority,
            runtime: attributes.runtime,
            deadline: attributes.deadline,
            period: attributes.period,
            util: (attributes.util_min, attributes.util_max),
        },
        affinity: sched::affinity(tid)?,
        timer_slack_ns: told.timer_slack_ns,
        ioprio: sched::ioprio(tid)?,
        pdeathsig: told.pdeathsig,
        creds: capture_creds(tid, &status, told.securebits)?,
        seccomp: filters.of_thread(pid, tid, &status)?,
    })
}

fn robust_list(tid: i32) -> CaptureResult<(u64, u64)> {
    let (mut head, mut len) = (0u64, 0u64);
    let pointer = |value: &mut u64| u64::try_from(std::ptr::from_mut(value).expose_provenance()).unwrap_or(0);
    let tid_word = i64::from(tid).cast_unsigned();
    let args = [tid_word, pointer(&mut head), pointer(&mut len), 0, 0, 0];
    // SAFETY: both pointers are valid for the words that the kernel writes.
    unsafe { raw::syscall(libc::SYS_get_robust_list, args) }
        .map_err(|errno| SysError::new("get_robust_list", format!("thread {tid}"), errno))?;
    Ok((head, len))
}
