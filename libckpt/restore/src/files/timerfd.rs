//! timerfd_create(2).
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::record::FileKindV1;
use ckpt_sys::{SysError, descriptor};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Makes a timerfd. It goes on with what was left; an absolute one of a clock that shows the date keeps its date.
pub(super) fn make(image: &Image, kind: &FileKindV1) -> RestoreResult<OwnedFd> {
    let FileKindV1::Timerfd { clock, settime_flags, ticks, value_ns, interval_ns } = *kind else {
        return Err(RestoreError::Inconsistent { what: "a timer of another kind".into() });
    };
    // SAFETY: no pointers.
    let fd = unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC) };
    if fd < 0 {
        return Err(SysError::last("timerfd_create", format!("clock {clock}")).into());
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    let timer = unsafe { OwnedFd::from_raw_fd(fd) };
    if value_ns > 0 {
        let dated = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_ALARM);
        let absolute = dated && settime_flags.cast_signed() & libc::TFD_TIMER_ABSTIME != 0;
        let (flags, value) = if absolute {
            let saved_at = u64::try_from(image.inventory()?.realtime_ns).unwrap_or(0);
            (settime_flags.cast_signed(), saved_at.saturating_add(value_ns))
        } else {
            (0, value_ns)
        };
        let spec = libc::itimerspec { it_interval: timespec(interval_ns), it_value: timespec(value) };
        // SAFETY: `spec` is an itimerspec; the old value is not asked for.
        if unsafe { libc::timerfd_settime(timer.as_raw_fd(), flags, &raw const spec, std::ptr::null_mut()) }
            != 0
        {
            return Err(SysError::last("timerfd_settime", format!("clock {clock}")).into());
        }
    }
    if ticks > 0 {
        descriptor::set_timer_ticks(timer.as_fd(), ticks)?;
    }
    Ok(timer)
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
    }
}
