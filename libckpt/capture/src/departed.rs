//! A main thread that has ended before the others. Its record is that of a thread that is about to end: restored, it does so by itself.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{RegistersV1, SchedV1, ThreadV1};
use ckpt_sys::RemoteAddr;
use ckpt_sys::arch::{Gpr, NO_SYSCALL};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::{self, maps, stat::Stat};

/// The system call instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// SCHED_DEADLINE.
const DEADLINE: u32 = 6;

/// All threads of process `pid`, the leader first, whether it lives or not.
pub(crate) fn with_leader(pid: i32, mut tids: Vec<i32>) -> Vec<i32> {
    if tids.first() != Some(&pid) {
        tids.insert(0, pid);
    }
    tids
}

/// Adds the record of the leader of process `pid` to those of its living `threads`, if it is not among them.
pub(crate) fn add_leader(pid: i32, memory: &ProcessMemory, threads: &mut Vec<ThreadV1>) -> CaptureResult<()> {
    let Some(first) = threads.first().filter(|first| first.tid != pid) else { return Ok(()) };
    let Some(call) = call_instruction(pid, memory)? else {
        return Err(CaptureError::unsupported(
            pid,
            format!("thread {pid}"),
            "it has ended, and there is no system call instruction by which it could do so again",
            "Let the main thread wait for the others (pthread_join) in place of pthread_exit",
        ));
    };
    let RegistersV1::X86_64 { gpr, xstate } = &first.registers;
    let status = Stat::of(pid, pid)?.exit_code.cast_unsigned() >> 8 & 0xff;
    let gpr = Gpr {
        rip: call,
        rax: libc::SYS_exit.cast_unsigned(),
        rdi: u64::from(status),
        orig_rax: NO_SYSCALL,
        ..Gpr::from_words(*gpr)
    };
    let comm = proc::read(pid, &format!("task/{pid}/comm"))?;
    let sched = if first.sched.policy == DEADLINE { SchedV1::default() } else { first.sched.clone() };
    let leader = ThreadV1 {
        tid: pid,
        registers: RegistersV1::X86_64 { gpr: gpr.to_words(), xstate: xstate.clone() },
        restart: None,
        sigmask: u64::MAX,
        pending: Vec::new(),
        altstack: (0, 0, 0),
        robust_list: (0, 0),
        rseq: None,
        clear_child_tid: 0,
        comm: comm.strip_suffix(b"\n").unwrap_or(&comm).to_vec(),
        sched,
        pdeathsig: 0,
        ..first.clone()
    };
    threads.insert(0, leader);
    Ok(())
}

/// The address of a system call instruction of the vDSO, which is at the same place after a restore.
fn call_instruction(pid: i32, memory: &ProcessMemory) -> CaptureResult<Option<u64>> {
    let mappings = maps::maps(pid)?;
    let Some(vdso) = mappings.iter().find(|mapping| mapping.path == b"[vdso]") else { return Ok(None) };
    let mut text = vec![0; usize::try_from(vdso.end - vdso.start).unwrap_or(0)];
    memory.read(RemoteAddr::new(vdso.start), &mut text)?;
    let at = text.windows(SYSCALL.len()).position(|bytes| bytes == SYSCALL);
    Ok(at.and_then(|at| u64::try_from(at).ok()).map(|at| vdso.start + at))
}
