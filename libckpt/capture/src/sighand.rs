//! Signal actions.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{SigActionV1, SigInfo, SighandId, SighandV1};
use ckpt_sys::inject::{Answers, Batch};
use ckpt_sys::ptrace::{self, Queue};

/// Signals, real-time ones included.
const SIGNALS: u64 = 64;
/// Bytes of `struct kernel_sigaction`.
const SIGACTION_SIZE: usize = 32;

/// Asks process `pid` for the actions of all signals, by rt_sigaction(2).
pub(crate) fn ask_sighand(
    pid: i32,
    batch: &mut Batch,
) -> impl FnOnce(&Answers) -> CaptureResult<SighandV1> + use<> {
    let mut ask = |signal| {
        let action = batch.reserve(SIGACTION_SIZE);
        (batch.call(libc::SYS_rt_sigaction, &[signal, 0, action.address(), 8]), action)
    };
    let asked: Vec<_> = (1..=SIGNALS).map(&mut ask).collect();
    move |answers| {
        let read = |(call, action)| {
            let word = |index| answers.word(action, index);
            let failed = |errno| CaptureError::Remote { pid, call: "rt_sigaction", errno };
            answers.outcome(call).map_err(failed)?;
            Ok(SigActionV1 { handler: word(0), flags: word(1), restorer: word(2), mask: word(3) })
        };
        let actions = asked.into_iter().map(read).collect::<CaptureResult<_>>()?;
        Ok(SighandV1 { id: SighandId(pid.unsigned_abs()), actions })
    }
}

/// Signals that wait for stopped thread `tid` or its process.
pub(crate) fn capture_pending(tid: i32, queue: Queue) -> CaptureResult<Vec<SigInfo>> {
    Ok(ptrace::pending(tid, queue)?.iter().map(|info| SigInfo(info.to_vec())).collect())
}
