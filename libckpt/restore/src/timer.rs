//! Interval timers and POSIX timers.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{ItimerV1, PosixTimerV1};

const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;
/// Bytes of `struct sigevent`.
const SIGEVENT_SIZE: usize = 64;
/// How many ids are tried on kernels that cannot be told one (before 6.16).
const IDS_MAX: u32 = 100_000;

/// Arms ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
pub(crate) fn restore_itimers(builder: &mut Builder<'_>, timers: &[ItimerV1; 3]) -> RestoreResult<()> {
    for (which, timer) in (0u64..).zip(timers) {
        if *timer == ItimerV1::default() {
            continue;
        }
        // A periodic timer whose signal is pending is not armed: the kernel winds it on when the signal is taken, which it does not
        // do for a signal that was queued by us.
        let value_us = if timer.value_us == 0 { timer.interval_us } else { timer.value_us };
        let words = [
            timer.interval_us / 1_000_000,
            timer.interval_us % 1_000_000,
            value_us / 1_000_000,
            value_us % 1_000_000,
        ];
        let at = place_words(builder, &words)?;
        builder.call("setitimer", &format!("timer {which}"), libc::SYS_setitimer, &[which, at, 0])?;
    }
    Ok(())
}

/// Makes the timers of timer_create(2) with their ids, and arms them.
pub(crate) fn restore_posix_timers(builder: &mut Builder<'_>, timers: &[PosixTimerV1]) -> RestoreResult<()> {
    if timers.is_empty() {
        return Ok(());
    }
    let prctl = libc::SYS_prctl;
    let ids = builder.remote.syscall(prctl, &[PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0])?.is_ok();
    for timer in timers {
        create(builder, timer, ids)?;
        let words = [
            timer.interval_ns / 1_000_000_000,
            timer.interval_ns % 1_000_000_000,
            timer.value_ns / 1_000_000_000,
            timer.value_ns % 1_000_000_000,
        ];
        let at = place_words(builder, &words)?;
        let id = u64::from(timer.id.unsigned_abs());
        builder.call("timer_settime", &format!("timer {id}"), libc::SYS_timer_settime, &[id, 0, at, 0])?;
    }
    if ids {
        builder.prctl("prctl(PR_TIMER_CREATE_RESTORE_IDS)", &[PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0])?;
    }
    Ok(())
}

fn create(builder: &mut Builder<'_>, timer: &PosixTimerV1, ids: bool) -> RestoreResult<()> {
    let object = format!("timer {}", timer.id);
    let tid = if timer.tid == 0 { 0 } else { builder.id_there(timer.tid)?.unwrap_or(0) };
    for _ in 0..IDS_MAX {
        let mut event = [0u8; SIGEVENT_SIZE];
        event[0..8].copy_from_slice(&timer.sigval.to_ne_bytes());
        event[8..12].copy_from_slice(&timer.signo.to_ne_bytes());
        event[12..16].copy_from_slice(&timer.notify.to_ne_bytes());
        event[16..20].copy_from_slice(&tid.to_ne_bytes());
        let event = builder.place(&event)?.get();
        let id = builder.place(&timer.id.to_ne_bytes())?;
        let clock = i64::from(timer.clock).cast_unsigned();
        builder.call("timer_create", &object, libc::SYS_timer_create, &[clock, event, id.get()])?;
        let mut got = [0; 4];
        builder.remote.memory().read(id, &mut got)?;
        let got = i32::from_ne_bytes(got);
        if got == timer.id {
            return Ok(());
        }
        if ids || got > timer.id {
            break;
        }
        builder.call("timer_delete", &object, libc::SYS_timer_delete, &[u64::from(got.unsigned_abs())])?;
    }
    Err(RestoreError::Machine {
        reason: format!("the kernel gives POSIX timer {} another id", timer.id),
        remedy: "Use a kernel of 6.16 or later".into(),
    })
}

fn place_words(builder: &mut Builder<'_>, words: &[u64]) -> RestoreResult<u64> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(builder.place(&bytes)?.get())
}
