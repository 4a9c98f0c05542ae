//! `--every`: the time between checkpoints.
use crate::failure::{Failure, Outcome};
use std::time::Duration;

/// Shortest interval. The next one starts when a checkpoint is done, so that this bounds the load, not the rate.
const SHORTEST: Duration = Duration::from_millis(10);
/// Longest interval: a typing error rather than a plan.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `500ms`, `10s`, `5m`, `1h`, `1h 30m`.
///
/// # Errors
/// Wrong usage, with examples.
pub(crate) fn parse(text: &str) -> Outcome<Duration> {
    let remedy = "write it like 500ms, 10s, 5m or 1h";
    let every = humantime::parse_duration(text.trim())
        .map_err(|error| Failure::usage(format!("{text:?} is not a time: {error}")).remedy(remedy))?;
    if every < SHORTEST || every > LONGEST {
        return Err(Failure::usage(format!("{text:?} is not between 10ms and a year")).remedy(remedy));
    }
    Ok(every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("1h 30m", 5_400_000)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "5", "-1s", "0s", "1us", "99y", "soon", "99999999999999999999s"] {
            assert_eq!(parse(text).unwrap_err().code, 2, "{text}");
        }
    }
}
