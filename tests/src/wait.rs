//! Waiting for a condition, with a deadline that only a broken program reaches.
use std::time::{Duration, Instant};

/// Long enough for anything that works, on a machine that is shared with other tests.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Polls `condition` until it gives a value.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
