//! ptrace(2) as the engine uses it: seize, stop, read and write what a thread is made of.
use crate::arch::{GPR_WORDS, Gpr};
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_PEEKSIGINFO: u32 = 0x4209;
const PTRACE_GETSIGMASK: u32 = 0x420a;
const PTRACE_SETSIGMASK: u32 = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;
const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;
const PEEKSIGINFO_SHARED: u32 = 1;
/// Bytes of `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;
/// Largest XSAVE area that is read: AMX's takes some 11 KiB.
const XSTATE_MAX: usize = 64 << 10;

/// PTRACE_O_TRACESYSGOOD: system call stops can be told from signals.
pub const O_SYSGOOD: u64 = 1;
/// PTRACE_O_TRACECLONE: new threads are traced from their first instruction.
pub const O_CLONE: u64 = 8;
/// PTRACE_O_EXITKILL: the tracee dies with its tracer. For processes under construction only.
pub const O_EXITKILL: u64 = 1 << 20;

/// PTRACE_O_SUSPEND_SECCOMP: its filters of system calls are not asked as long as it is traced. For a tracer with CAP_SYS_ADMIN that has no filters
/// itself.
pub const O_SUSPEND_SECCOMP: u64 = 1 << 21;

/// Why a traced thread stopped, or that it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// PTRACE_EVENT_STOP after an interrupt, or of a new thread.
    Event,
    /// Group-stop by this signal: the job was stopped before.
    Group(i32),
    /// A system call begins or ends.
    Syscall,
    /// This signal is about to be delivered.
    Signal(i32),
    /// PTRACE_EVENT_CLONE and its kin: the event's number.
    Other(i32),
    /// Exited with this status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
}

impl Stop {
    fn from_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            return Self::Exited(libc::WEXITSTATUS(status));
        }
        if libc::WIFSIGNALED(status) {
            return Self::Killed(libc::WTERMSIG(status));
        }
        let (signal, event) = ((status >> 8) & 0xff, status >> 16);
        match (event, signal) {
            (libc::PTRACE_EVENT_STOP, libc::SIGTRAP) => Self::Event,
            (libc::PTRACE_EVENT_STOP, signal) => Self::Group(signal),
            (0, signal) if signal == libc::SIGTRAP | 0x80 => Self::Syscall,
            (0, signal) => Self::Signal(signal),
            (event, _) => Self::Other(event),
        }
    }
}

pub(crate) fn call(
    request: u32,
    name: &'static str,
    tid: i32,
    address: usize,
    data: usize,
) -> SysResult<i64> {
    // SAFETY: callers pass pointers that are valid for what the request reads and writes, with their length.
    let value = unsafe { libc::ptrace(request, tid, address, data) };
    if value == -1 { Err(SysError::last(name, format!("thread {tid}"))) } else { Ok(value) }
}

/// Becomes the tracer of `tid` without stopping it. `options` are O_*.
pub fn seize(tid: i32, options: u64) -> SysResult<()> {
    let options = usize::try_from(options).unwrap_or(0);
    call(PTRACE_SEIZE, "ptrace(PTRACE_SEIZE)", tid, 0, options).map(drop)
}

/// Changes the options (O_*) of a stopped thread.
pub fn set_options(tid: i32, options: u64) -> SysResult<()> {
    let options = usize::try_from(options).unwrap_or(0);
    call(libc::PTRACE_SETOPTIONS, "ptrace(PTRACE_SETOPTIONS)", tid, 0, options).map(drop)
}

/// Asks a seized thread to stop.
pub fn interrupt(tid: i32) -> SysResult<()> {
    call(PTRACE_INTERRUPT, "ptrace(PTRACE_INTERRUPT)", tid, 0, 0).map(drop)
}

/// Lets a stopped thread run on, delivering `signal` (0: none).
pub fn cont(tid: i32, signal: i32) -> SysResult<()> {
    let signal = usize::try_from(signal).unwrap_or(0);
    call(libc::PTRACE_CONT, "ptrace(PTRACE_CONT)", tid, 0, signal).map(drop)
}

/// Lets a stopped thread run to the next begin or end of a system call, delivering `signal` (0: none).
pub fn cont_to_syscall(tid: i32, signal: i32) -> SysResult<()> {
    let signal = usize::try_from(signal).unwrap_or(0);
    call(libc::PTRACE_SYSCALL, "ptrace(PTRACE_SYSCALL)", tid, 0, signal).map(drop)
}

/// Ends tracing of a stopped thread; it runs on, with `signal` delivered (0: none).
pub fn detach(tid: i32, signal: i32) -> SysResult<()> {
    let signal = usize::try_from(signal).unwrap_or(0);
    call(libc::PTRACE_DETACH, "ptrace(PTRACE_DETACH)", tid, 0, signal).map(drop)
}

/// Whether `tid` has stopped or gone, without waiting.
pub fn try_wait(tid: i32) -> SysResult<Option<Stop>> {
    let mut status = 0;
    // SAFETY: `status` is ours and valid for writing.
    match unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) } {
        0 => Ok(None),
        -1 if Errno::last() == Errno::EINTR => Ok(None),
        -1 => Err(SysError::last("waitpid", format!("thread {tid}"))),
        _ => Ok(Some(Stop::from_status(status))),
    }
}

/// Waits until `tid` stops or is gone.
pub fn wait(tid: i32) -> SysResult<Stop> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and valid for writing.
        if unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) } != -1 {
            return Ok(Stop::from_status(status));
        }
        if Errno::last() != Errno::EINTR {
            return Err(SysError::last("waitpid", format!("thread {tid}")));
        }
    }
}

/// Waits at most `limit` until `tid` stops or is gone; None when time ran out (the thread does not come out of the kernel).
pub fn wait_at_most(tid: i32, limit: Duration) -> SysResult<Option<Stop>> {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(20);
    loop {
        if let Some(stop) = try_wait(tid)? {
            return Ok(Some(stop));
        }
        let waited = begin.elapsed();
        if waited > limit {
            return Ok(None);
        }
        if waited < Duration::from_micros(200) {
            std::thread::yield_now();
        } else {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }
}

fn regset(request: u32, name: &'static str, tid: i32, kind: usize, bytes: &mut [u8]) -> SysResult<usize> {
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let at = (&raw mut iov).expose_provenance();
    call(request, name, tid, kind, at).map(|_| iov.iov_len)
}

/// The general registers of a stopped thread.
pub fn gpr(tid: i32) -> SysResult<Gpr> {
    let mut bytes = [0u8; GPR_WORDS * 8];
    regset(libc::PTRACE_GETREGSET, "ptrace(PTRACE_GETREGSET, NT_PRSTATUS)", tid, NT_PRSTATUS, &mut bytes)?;
    let mut words = [0; GPR_WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*chunk);
    }
    Ok(Gpr::from_words(words))
}

/// Sets the general registers of a stopped thread.
pub fn set_gpr(tid: i32, gpr: &Gpr) -> SysResult<()> {
    let mut bytes = gpr.to_words().map(u64::to_ne_bytes);
    let bytes = bytes.as_flattened_mut();
    regset(libc::PTRACE_SETREGSET, "ptrace(PTRACE_SETREGSET, NT_PRSTATUS)", tid, NT_PRSTATUS, bytes).map(drop)
}

/// The extended state of a stopped thread, XSAVE standard format.
pub fn xstate(tid: i32) -> SysResult<Vec<u8>> {
    // The same for all threads of a machine: what the kernel filled the first time.
    static SIZE: AtomicUsize = AtomicUsize::new(XSTATE_MAX);
    let mut bytes = vec![0; SIZE.load(Ordering::Relaxed)];
    let name = "ptrace(PTRACE_GETREGSET, NT_X86_XSTATE)";
    let len = regset(libc::PTRACE_GETREGSET, name, tid, NT_X86_XSTATE, &mut bytes)?;
    SIZE.store(len, Ordering::Relaxed);
    bytes.truncate(len);
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// Sets the extended state of a stopped thread. The kernel takes an area of exactly its own size.
pub fn set_xstate(tid: i32, xstate: &[u8]) -> SysResult<()> {
    let mut bytes = xstate.to_vec();
    let name = "ptrace(PTRACE_SETREGSET, NT_X86_XSTATE)";
    regset(libc::PTRACE_SETREGSET, name, tid, NT_X86_XSTATE, &mut bytes).map(drop)
}

/// The blocked signals of a stopped thread.
pub fn sigmask(tid: i32) -> SysResult<u64> {
    let mut mask = 0u64;
    let at = (&raw mut mask).expose_provenance();
    call(PTRACE_GETSIGMASK, "ptrace(PTRACE_GETSIGMASK)", tid, 8, at)?;
    Ok(mask)
}

/// Sets the blocked signals of a stopped thread.
pub fn set_sigmask(tid: i32, mask: u64) -> SysResult<()> {
    let at = (&raw const mask).expose_provenance();
    call(PTRACE_SETSIGMASK, "ptrace(PTRACE_SETSIGMASK)", tid, 8, at).map(drop)
}

/// Which queue of pending signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// The thread's own.
    Private,
    /// The process's.
    Shared,
}

#[repr(C)]
struct PeekSiginfoArgs {
    offset: u64,
    flags: u32,
    count: i32,
}

/// The pending signals of a stopped thread or its process: `siginfo_t` each, in queue order.
pub fn pending(tid: i32, queue: Queue) -> SysResult<Vec<[u8; SIGINFO_SIZE]>> {
    const BATCH: usize = 32;
    let mut found = Vec::new();
    loop {
        let args = PeekSiginfoArgs {
            offset: u64::try_from(found.len()).unwrap_or(u64::MAX),
            flags: if queue == Queue::Shared { PEEKSIGINFO_SHARED } else { 0 },
            count: 32,
        };
        let mut batch = [[0u8; SIGINFO_SIZE]; BATCH];
        let address = (&raw const args).expose_provenance();
        let data = batch.as_mut_ptr().expose_provenance();
        let got = call(PTRACE_PEEKSIGINFO, "ptrace(PTRACE_PEEKSIGINFO)", tid, address, data)?;
        let got = usize::try_from(got).unwrap_or(0);
        found.extend_from_slice(&batch[..got]);
        if got < BATCH {
            return Ok(found);
        }
    }
}

/// Whether a stopped thread has its system calls handed to itself (PR_SET_SYSCALL_USER_DISPATCH); no on kernels that do not tell (before 6.4).
pub fn dispatches_syscalls(tid: i32) -> SysResult<bool> {
    const GET_CONFIGURATION: u32 = 0x4211;
    // struct ptrace_sud_config: mode, selector, offset, len.
    let mut configuration = [0u64; 4];
    let at = configuration.as_mut_ptr().expose_provenance();
    let name = "ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG)";
    match call(GET_CONFIGURATION, name, tid, size_of_val(&configuration), at) {
        Ok(_) => Ok(configuration[0] != 0),
        Err(error) if matches!(error.errno(), Some(Errno::EIO | Errno::EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A restartable sequence's registration.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RseqConfiguration {
    /// Address of `struct rseq`; 0 when none is registered.
    pub address: u64,
    /// Its length, bytes.
    pub size: u32,
    /// Signature.
    pub signature: u32,
    /// Flags.
    pub flags: u32,
    pad: u32,
}

/// The restartable sequence of a stopped thread; None when it registered none or the kernel has no such call.
pub fn rseq(tid: i32) -> SysResult<Option<RseqConfiguration>> {
    let mut configuration = RseqConfiguration::default();
    let at = (&raw mut configuration).expose_provenance();
    let size = size_of::<RseqConfiguration>();
    match call(PTRACE_GET_RSEQ_CONFIGURATION, "ptrace(PTRACE_GET_RSEQ_CONFIGURATION)", tid, size, at) {
        Ok(_) => Ok((configuration.address != 0).then_some(configuration)),
        Err(error) if matches!(error.errno(), Some(Errno::EIO | Errno::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}
