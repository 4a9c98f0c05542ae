//! Waiting until the requests of a stopped process have ended: they write to its memory without its doing.
use super::{RingInfo, held_by, refused};
use crate::error::CaptureResult;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long requests may take to end.
const LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(200);

/// Waits until nothing is in flight in the instances of stopped process `pid`, which has mappings of rings. The addresses of their registered
/// buffers: the kernel writes there without a fault.
pub(crate) fn quiesce(pid: i32) -> CaptureResult<Vec<Range<u64>>> {
    let mut buffers = Vec::new();
    for fd in held_by(pid)? {
        let begin = Instant::now();
        loop {
            let info = RingInfo::read(pid, fd)?;
            let Some((reason, remedy)) = info.refusal(false) else {
                buffers.extend(
                    info.buffers
                        .into_iter()
                        .map(|(start, len)| start & !4095..(start + len).next_multiple_of(4096)),
                );
                break;
            };
            // What waits for a file may do so for ever.
            let hopeless = info.refusal(true).is_some() || info.overflown || info.in_flight() >= 1 << 31;
            if hopeless || begin.elapsed() > LIMIT {
                return Err(refused(pid, fd, reason, remedy));
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(buffers)
}
