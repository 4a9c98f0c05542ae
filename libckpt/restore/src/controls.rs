//! What prctl(2) sets for processes and threads.
use crate::builder::Builder;
use crate::error::RestoreResult;
use ckpt_image::record::{ControlsV1, ThreadControlsV1};
use ckpt_sys::proc::status::{SPECULATION, Status};

const PR_SET_TSC: u64 = 26;
const PR_SET_SPECULATION_CTRL: u64 = 53;
const PR_SET_IO_FLUSHER: u64 = 57;
const PR_SET_MDWE: u64 = 65;
const PR_SET_MEMORY_MERGE: u64 = 67;
/// What a new thread has (PR_TSC_ENABLE).
const TSC_ENABLED: u32 = 1;

/// Of the address space: when its mappings are as they shall be, for some of that is what these forbid.
pub(crate) fn restore_memory(builder: &mut Builder<'_>, controls: &ControlsV1) -> RestoreResult<()> {
    if controls.memory_merge {
        attempt(builder, "same-page merging", &[PR_SET_MEMORY_MERGE, 1, 0, 0, 0])?;
    }
    if controls.mdwe != 0 {
        let args = [PR_SET_MDWE, u64::from(controls.mdwe), 0, 0, 0];
        builder.prctl("prctl(PR_SET_MDWE)", &args)?;
    }
    Ok(())
}

/// Of the thread of `builder`.
pub(crate) fn restore_thread(builder: &mut Builder<'_>, controls: &ThreadControlsV1) -> RestoreResult<()> {
    if controls.tsc > TSC_ENABLED {
        builder.prctl("prctl(PR_SET_TSC)", &[PR_SET_TSC, u64::from(controls.tsc), 0, 0, 0])?;
    }
    if controls.io_flusher {
        attempt(builder, "PR_SET_IO_FLUSHER", &[PR_SET_IO_FLUSHER, 1, 0, 0, 0])?;
    }
    let now = Status::of(builder.remote.pid(), builder.remote.tid())?;
    for (which, (line, wanted)) in (0..).zip(SPECULATION.iter().zip(controls.speculation)) {
        if wanted != 0 && now.speculation(line) != wanted {
            attempt(builder, line, &[PR_SET_SPECULATION_CTRL, which, u64::from(wanted), 0, 0])?;
        }
    }
    Ok(())
}

/// What this machine or our privilege may lack without harm to the program.
fn attempt(builder: &mut Builder<'_>, what: &str, args: &[u64]) -> RestoreResult<()> {
    if let Err(errno) = builder.remote.syscall(libc::SYS_prctl, args)? {
        let tid = builder.remote.tid();
        tracing::warn!(tid, %errno, "{what} is not restored");
    }
    Ok(())
}
