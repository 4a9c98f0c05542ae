//! Waiting for a condition, with a deadline that only a broken program reaches.
use std::time::{Duration, Instant};

/// Long enough for anything that works, on a machine that is shared with other tests.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How long what settles by itself is given before it is taken as it is.
const SETTLING: Duration = Duration::from_secs(60);

/// Polls `condition` until it gives a value, or has had time enough to.
pub fn until_or_late<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        let value = condition();
        if value.is_some() || begin.elapsed() > SETTLING {
            return value;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Polls `condition` until it gives a value; None after [`DEADLINE`].
pub fn until_or_none<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        let value = condition();
        if value.is_some() || begin.elapsed() > DEADLINE {
            return value;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

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
