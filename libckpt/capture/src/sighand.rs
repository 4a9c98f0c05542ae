//! Signal actions.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{SigActionV1, SigInfo, SighandId, SighandV1};
use ckpt_sys::inject::Injector;
use ckpt_sys::ptrace::{self, Queue};

/// Signals, real-time ones included.
const SIGNALS: u64 = 64;
/// Bytes of `struct kernel_sigaction`.
const SIGACTION_SIZE: usize = 32;

/// Reads the actions of all signals, by rt_sigaction(2) in the process.
pub(crate) fn capture_sighand(injector: &mut Injector<'_>) -> CaptureResult<SighandV1> {
    let mut actions = Vec::new();
    for signal in 1..=SIGNALS {
        let at = injector.reserve(SIGACTION_SIZE)?;
        injector
            .syscall(libc::SYS_rt_sigaction, &[signal, 0, at.get(), 8])?
            .map_err(|errno| CaptureError::Remote { pid: injector.pid(), call: "rt_sigaction", errno })?;
        let mut bytes = [0; SIGACTION_SIZE];
        injector.memory().read(at, &mut bytes)?;
        let word = |index: usize| u64::from_ne_bytes(bytes.as_chunks::<8>().0[index]);
        actions.push(SigActionV1 { handler: word(0), flags: word(1), restorer: word(2), mask: word(3) });
    }
    Ok(SighandV1 { id: SighandId(injector.pid().unsigned_abs()), actions })
}

/// Signals that wait for stopped thread `tid` or its process.
pub(crate) fn capture_pending(tid: i32, queue: Queue) -> CaptureResult<Vec<SigInfo>> {
    Ok(ptrace::pending(tid, queue)?.iter().map(|info| SigInfo(info.to_vec())).collect())
}
