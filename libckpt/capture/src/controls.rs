//! What prctl(2) set for processes and threads and nothing else shows.
use crate::error::{CaptureError, CaptureResult};
use crate::thread::remote;
use ckpt_image::record::ThreadControlsV1;
use ckpt_sys::inject::Injector;
use ckpt_sys::proc::stat::{PF_IO_FLUSHER, Stat};
use ckpt_sys::proc::status::{SPECULATION, Status};
use ckpt_sys::ptrace;

const PR_GET_TSC: u64 = 25;
const PR_GET_MDWE: u64 = 66;
const PR_GET_MEMORY_MERGE: u64 = 68;

/// Of the address space of the process that `injector` holds: PR_GET_MDWE and PR_GET_MEMORY_MERGE.
pub(crate) fn capture_memory(injector: &mut Injector<'_>) -> CaptureResult<(u32, bool)> {
    // An error: this kernel has no such thing.
    let mut get = |option: u64| -> CaptureResult<u64> {
        Ok(injector.syscall(libc::SYS_prctl, &[option, 0, 0, 0, 0])?.unwrap_or(0))
    };
    Ok((u32::try_from(get(PR_GET_MDWE)?).unwrap_or(0), get(PR_GET_MEMORY_MERGE)? != 0))
}

/// Of the thread that `injector` holds.
pub(crate) fn capture_thread(injector: &mut Injector<'_>) -> CaptureResult<ThreadControlsV1> {
    let (pid, tid) = (injector.pid(), injector.tid());
    let at = injector.place(&[0; 8])?;
    remote(injector, "prctl(PR_GET_TSC)", libc::SYS_prctl, &[PR_GET_TSC, at.get()])?;
    let tsc = u32::try_from(injector.memory().read_u64(at)? & 0xffff_ffff).unwrap_or(0);
    let status = Status::of(pid, tid)?;
    let io_flusher = Stat::of(pid, tid)?.flags & PF_IO_FLUSHER != 0;
    Ok(ThreadControlsV1 {
        tid,
        tsc,
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
