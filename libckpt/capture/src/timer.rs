//! Interval timers and POSIX timers.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{ItimerV1, PosixTimerV1};
use ckpt_sys::inject::Injector;
use ckpt_sys::proc;
use nix::errno::Errno;

const TIME_SIZE: usize = 32;
const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;

fn read_words(
    injector: &mut Injector<'_>,
    call: &'static str,
    nr: i64,
    which: u64,
) -> CaptureResult<[u64; 4]> {
    let at = injector.reserve(TIME_SIZE)?;
    let pid = injector.pid();
    injector.syscall(nr, &[which, at.get()])?.map_err(|errno| CaptureError::Remote { pid, call, errno })?;
    let mut bytes = [0; TIME_SIZE];
    injector.memory().read(at, &mut bytes)?;
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*chunk);
    }
    Ok(words)
}

/// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
pub(crate) fn capture_itimers(injector: &mut Injector<'_>) -> CaptureResult<[ItimerV1; 3]> {
    let mut timers = [ItimerV1::default(); 3];
    for (which, timer) in (0..).zip(&mut timers) {
        let words = read_words(injector, "getitimer", libc::SYS_getitimer, which)?;
        let [interval_s, interval_us, value_s, value_us] = words;
        *timer = ItimerV1 {
            interval_us: interval_s * 1_000_000 + interval_us,
            value_us: value_s * 1_000_000 + value_us,
        };
    }
    Ok(timers)
}

/// The timers that timer_create(2) made: /proc/PID/timers says which there are, the process itself how they stand.
pub(crate) fn capture_posix_timers(injector: &mut Injector<'_>) -> CaptureResult<Vec<PosixTimerV1>> {
    let text = match proc::read_text(injector.pid(), "timers") {
        Ok(text) => text,
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut timers = parse(&text).ok_or_else(|| proc::malformed("parse of timers", injector.pid()))?;
    for timer in &mut timers {
        let id = u64::from(timer.id.unsigned_abs());
        let words = read_words(injector, "timer_gettime", libc::SYS_timer_gettime, id)?;
        let [interval_s, interval_ns, value_s, value_ns] = words;
        timer.interval_ns = interval_s * 1_000_000_000 + interval_ns;
        timer.value_ns = value_s * 1_000_000_000 + value_ns;
        let overrun = injector.syscall(libc::SYS_timer_getoverrun, &[id])?;
        timer.overrun = overrun.map_or(0, |count| i32::try_from(count).unwrap_or(i32::MAX));
    }
    Ok(timers)
}

fn parse(text: &str) -> Option<Vec<PosixTimerV1>> {
    let mut timers: Vec<PosixTimerV1> = Vec::new();
    for line in text.lines() {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name == "ID" {
            let id = value.parse().ok()?;
            timers.push(PosixTimerV1 {
                id,
                clock: 0,
                notify: SIGEV_SIGNAL,
                signo: 0,
                tid: 0,
                sigval: 0,
                interval_ns: 0,
                value_ns: 0,
                overrun: 0,
            });
            continue;
        }
        let timer = timers.last_mut()?;
        match name {
            "signal" => {
                let (signo, sigval) = value.split_once('/')?;
                timer.signo = signo.parse().ok()?;
                timer.sigval = u64::from_str_radix(sigval.trim_start_matches("0x"), 16).ok()?;
            }
            "notify" => {
                let (kind, target) = value.split_once('/')?;
                let (scope, id) = target.split_once('.')?;
                timer.notify = match kind {
                    "signal" => SIGEV_SIGNAL,
                    "none" => SIGEV_NONE,
                    _ => SIGEV_THREAD,
                };
                if scope == "tid" {
                    timer.notify |= SIGEV_THREAD_ID;
                    timer.tid = id.parse().ok()?;
                }
            }
            "ClockID" => timer.clock = value.parse().ok()?,
            _ => {}
        }
    }
    Some(timers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_timers() {
        let text = "ID: 3\nsignal: 14/00000000deadbeef\nnotify: signal/pid.2634\nClockID: 0\n\
                    ID: 9\nsignal: 34/0\nnotify: signal/tid.2635\nClockID: -6\n";
        let timers = parse(text).unwrap();
        assert_eq!((timers[0].id, timers[0].signo, timers[0].sigval), (3, 14, 0xdead_beef));
        assert_eq!((timers[1].notify, timers[1].tid, timers[1].clock), (SIGEV_THREAD_ID, 2635, -6));
    }
}
