//! Interval timers and POSIX timers.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{ItimerV1, PosixTimerV1};
use ckpt_sys::inject::{Answers, Batch, Injector};
use ckpt_sys::proc;
use nix::errno::Errno;

const TIME_SIZE: usize = 32;
const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;

/// Asks for the interval and the time left of timer `which`: seconds and a fraction each.
fn ask_words(
    pid: i32,
    call: &'static str,
    nr: i64,
    which: u64,
    batch: &mut Batch,
) -> impl FnOnce(&Answers) -> CaptureResult<[u64; 4]> + use<> {
    let time = batch.reserve(TIME_SIZE);
    let asked = batch.call(nr, &[which, time.address()]);
    move |answers| {
        answers.outcome(asked).map_err(|errno| CaptureError::Remote { pid, call, errno })?;
        Ok([0, 1, 2, 3].map(|index| answers.word(time, index)))
    }
}

/// Asks for ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
pub(crate) fn ask_itimers(
    pid: i32,
    batch: &mut Batch,
) -> impl FnOnce(&Answers) -> CaptureResult<[ItimerV1; 3]> + use<> {
    let asked = [0, 1, 2].map(|which| ask_words(pid, "getitimer", libc::SYS_getitimer, which, batch));
    move |answers| {
        let mut timers = [ItimerV1::default(); 3];
        for (words, timer) in asked.into_iter().zip(&mut timers) {
            let [interval_s, interval_us, value_s, value_us] = words(answers)?;
            *timer = ItimerV1 {
                interval_us: interval_s * 1_000_000 + interval_us,
                value_us: value_s * 1_000_000 + value_us,
            };
        }
        Ok(timers)
    }
}

/// Timers for a batch of their own: there may be any number of them.
const TIMERS_AT_A_TIME: usize = 100;

/// The timers that timer_create(2) made: /proc/PID/timers says which there are, the process itself how they stand.
pub(crate) fn capture_posix_timers(injector: &mut Injector<'_>) -> CaptureResult<Vec<PosixTimerV1>> {
    let pid = injector.pid();
    let text = match proc::read_text(pid, "timers") {
        Ok(text) => text,
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut timers = parse(&text).ok_or_else(|| proc::malformed("parse of timers", pid))?;
    for timers in timers.chunks_mut(TIMERS_AT_A_TIME) {
        let mut batch = injector.batch();
        let mut ask = |timer: &PosixTimerV1| {
            let id = u64::from(timer.id.unsigned_abs());
            let words = ask_words(pid, "timer_gettime", libc::SYS_timer_gettime, id, &mut batch);
            (words, batch.call(libc::SYS_timer_getoverrun, &[id]))
        };
        let asked: Vec<_> = timers.iter().map(&mut ask).collect();
        let answers = injector.run(batch)?;
        for (timer, (words, overrun)) in timers.iter_mut().zip(asked) {
            let [interval_s, interval_ns, value_s, value_ns] = words(&answers)?;
            timer.interval_ns = interval_s * 1_000_000_000 + interval_ns;
            timer.value_ns = value_s * 1_000_000_000 + value_ns;
            timer.overrun =
                answers.outcome(overrun).map_or(0, |count| i32::try_from(count).unwrap_or(i32::MAX));
        }
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
