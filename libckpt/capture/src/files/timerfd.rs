//! timerfd_create(2).
use super::index::read_info;
use super::{Context, FdInfo, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use ckpt_sys::proc::malformed;

/// Saves a timerfd.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let mut current = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
    };
    // A periodic timer that has expired and was not read stands still in the kernel. Asked for its value, the kernel winds it
    // on and counts what it has missed, as the program's next read would.
    // SAFETY: `current` is an itimerspec.
    unsafe { libc::timerfd_gettime(std::os::fd::AsRawFd::as_raw_fd(&file.dup()), &raw mut current) };
    let (pid, fd) = file.place;
    let info = read_info(pid, fd)?;
    let left = (nanoseconds(current.it_value), nanoseconds(current.it_interval));
    Ok(parse(&info, left)
        .ok_or_else(|| malformed("parse of a timerfd's fdinfo", context.index.holder(file)))?)
}

fn nanoseconds(time: libc::timespec) -> u64 {
    let parts = u64::try_from(time.tv_sec).ok().zip(u64::try_from(time.tv_nsec).ok());
    parts.map_or(0, |(seconds, rest)| seconds.saturating_mul(1_000_000_000).saturating_add(rest))
}

/// What is left and the period come from the call that wound it on: by the time that fdinfo is read, a short period may be over again.
fn parse(info: &FdInfo, (value_ns, interval_ns): (u64, u64)) -> Option<FileKindV1> {
    Some(FileKindV1::Timerfd {
        clock: info.field("clockid")?.parse().ok()?,
        settime_flags: u32::from_str_radix(info.field("settime flags")?, 8).ok()?,
        ticks: info.field("ticks")?.parse().ok()?,
        value_ns,
        interval_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fdinfo_of_a_timerfd() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t2058\nclockid: 1\nticks: 3\nsettime flags: 01\n\
                    it_value: (0, 49406829)\nit_interval: (1, 5)\n";
        let kind = parse(&FdInfo::parse(text).unwrap(), (49_406_829, 1_000_000_005)).unwrap();
        let wanted = FileKindV1::Timerfd {
            clock: 1,
            settime_flags: 1,
            ticks: 3,
            value_ns: 49_406_829,
            interval_ns: 1_000_000_005,
        };
        assert_eq!(kind, wanted);
    }
}
