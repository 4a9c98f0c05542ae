//! Requests that the block devices of this machine have not finished.
use crate::error::CaptureResult;
use ckpt_sys::SysError;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const STATS: &str = "/proc/diskstats";
/// Time between two looks.
const PAUSE: Duration = Duration::from_micros(200);

/// Waits until every block device has been seen without a request in flight since the call: then all is done that had been begun before. The error
/// names a device that is busy all the time.
pub(crate) fn wait_until_done(limit: Duration) -> CaptureResult<Result<(), String>> {
    let begin = Instant::now();
    let mut seen_idle = BTreeSet::new();
    loop {
        let text = std::fs::read_to_string(STATS).map_err(|error| SysError::new("read", STATS, error))?;
        let mut busy = None;
        for (name, in_flight) in text.lines().filter_map(parse) {
            if in_flight == 0 {
                seen_idle.insert(name.to_owned());
            } else if !seen_idle.contains(name) {
                busy = Some(name);
            }
        }
        match busy {
            None => return Ok(Ok(())),
            Some(name) if begin.elapsed() > limit => return Ok(Err(name.to_owned())),
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// The name of a device and its requests in flight.
fn parse(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let name = words.nth(2)?;
    Some((name, words.nth(8)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_diskstats() {
        let line = " 254       0 vda 100 1 2 3 400 5 6 7 8 900 10 0 0 0 0 11 12";
        assert_eq!(parse(line), Some(("vda", 8)));
    }
}
