//! What prctl(2) set for processes and threads and nothing else shows.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::ThreadControlsV1;
use ckpt_sys::inject::{Answers, Batch};
use ckpt_sys::proc::stat::{PF_IO_FLUSHER, Stat};
use ckpt_sys::proc::status::{SPECULATION, Status};
use ckpt_sys::ptrace;

const PR_GET_TSC: u64 = 25;
const PR_GET_IO_FLUSHER: u64 = 58;
const PR_GET_MDWE: u64 = 66;
const PR_GET_MEMORY_MERGE: u64 = 68;

/// Asks for PR_GET_MDWE and PR_GET_MEMORY_MERGE of a process's address space.
pub(crate) fn ask_memory(batch: &mut Batch) -> impl FnOnce(&Answers) -> (u32, bool) + use<> {
    let calls =
        [PR_GET_MDWE, PR_GET_MEMORY_MERGE].map(|option| batch.call(libc::SYS_prctl, &[option, 0, 0, 0, 0]));
    move |answers| {
        // An error: this kernel has no such thing.
        let [mdwe, merge] = calls.map(|call| answers.outcome(call).unwrap_or(0));
        (u32::try_from(mdwe).unwrap_or(0), merge != 0)
    }
}

/// Asks a thread of process `pid` for PR_GET_TSC.
pub(crate) fn ask_thread(
    pid: i32,
    batch: &mut Batch,
) -> impl FnOnce(&Answers) -> CaptureResult<Told> + use<> {
    let tsc = batch.reserve(8);
    let asked = batch.call(libc::SYS_prctl, &[PR_GET_TSC, tsc.address()]);
    let io_flusher = batch.call(libc::SYS_prctl, &[PR_GET_IO_FLUSHER, 0, 0, 0, 0]);
    move |answers| {
        let failed = |errno| CaptureError::Remote { pid, call: "prctl(PR_GET_TSC)", errno };
        answers.outcome(asked).map_err(failed)?;
        Ok(Told {
            tsc: u32::try_from(answers.word(tsc, 0) & 0xffff_ffff).unwrap_or(0),
            io_flusher: answers.outcome(io_flusher).ok().map(|value| value != 0),
        })
    }
}

/// What a thread tells of its controls.
#[derive(Debug)]
pub(crate) struct Told {
    tsc: u32,
    /// None: it may not know, for want of CAP_SYS_RESOURCE.
    io_flusher: Option<bool>,
}

/// Of thread `tid` of process `pid`. `flags`: its flags (PF_*) before the freeze, if they are known. What may not ask may not have set it either.
pub(crate) fn capture_thread(
    pid: i32,
    tid: i32,
    told: &Told,
    flags: Option<u64>,
    status: &Status,
) -> CaptureResult<ThreadControlsV1> {
    let io_flusher = match (told.io_flusher, flags) {
        (Some(told), _) => told,
        (None, Some(flags)) => flags & PF_IO_FLUSHER != 0,
        (None, None) => Stat::of(pid, tid)?.flags & PF_IO_FLUSHER != 0,
    };
    Ok(ThreadControlsV1 {
        tid,
        tsc: told.tsc,
        io_flusher,
        speculation: SPECULATION.map(|line| status.speculation(line)),
    })
}

/// Refuses a thread whose system calls are handed to itself.
pub(crate) fn check_dispatch(pid: i32, tid: i32) -> CaptureResult<()> {
    if !ptrace::dispatches_syscalls(tid)? {
        return Ok(());
    }
    Err(CaptureError::unsupported(
        pid,
        format!("thread {tid}"),
        "it has its system calls handed to a handler of its own (PR_SET_SYSCALL_USER_DISPATCH), as Wine does, which cannot be saved",
        "Save when it has ended",
    ))
}
