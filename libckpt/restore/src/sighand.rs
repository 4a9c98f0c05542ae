//! Signal actions and pending signals.
use crate::builder::Builder;
use crate::error::RestoreResult;
use ckpt_image::record::{SigInfo, SighandV1};

/// Sets the actions of all signals but SIGKILL and SIGSTOP.
pub(crate) fn restore_sighand(builder: &mut Builder<'_>, sighand: &SighandV1) -> RestoreResult<()> {
    let mut calls = builder.calls();
    for (signal, action) in (1u64..).zip(&sighand.actions) {
        if matches!(i32::try_from(signal), Ok(libc::SIGKILL | libc::SIGSTOP)) {
            continue;
        }
        let words = [action.handler, action.flags, action.restorer, action.mask];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let at = calls.place(&bytes);
        let object = format!("signal {signal}");
        calls.add("rt_sigaction", object, libc::SYS_rt_sigaction, &[signal, at, 0, 8]);
    }
    builder.make(calls)
}

/// Queues signals for the thread itself, or for the whole process, in the thread that is its leader. All signals are blocked meanwhile.
pub(crate) fn restore_pending(
    builder: &mut Builder<'_>,
    pending: &[SigInfo],
    shared: bool,
) -> RestoreResult<()> {
    if pending.is_empty() {
        return Ok(());
    }
    let (pid, tid) = builder.own_ids()?;
    let (pid, tid) = (u64::from(pid.unsigned_abs()), u64::from(tid.unsigned_abs()));
    for info in pending {
        let signal = info.0.first_chunk().map_or(0, |bytes| u64::from(u32::from_ne_bytes(*bytes)));
        let at = builder.place(&info.0)?.get();
        let object = format!("pending signal {signal}");
        builder.has_pending(signal);
        if shared {
            builder.call("rt_sigqueueinfo", &object, libc::SYS_rt_sigqueueinfo, &[pid, signal, at])?;
        } else {
            builder.call(
                "rt_tgsigqueueinfo",
                &object,
                libc::SYS_rt_tgsigqueueinfo,
                &[pid, tid, signal, at],
            )?;
        }
    }
    Ok(())
}
