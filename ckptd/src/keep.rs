//! `--keep` and `--keep-for`: which checkpoints of a job are kept.
use crate::failure::{Failure, Outcome};
use ckpt_image::Retention;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which are kept, in messages and files of the daemon's. Without a rule, all are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keep {
    /// As many of the newest.
    pub(crate) newest: Option<u32>,
    /// Those that are no older, milliseconds.
    pub(crate) younger_ms: Option<u64>,
}

impl Keep {
    /// Whether there is a rule.
    pub(crate) fn is_some(&self) -> bool {
        *self != Self::default()
    }
}

impl From<Keep> for Retention {
    fn from(keep: Keep) -> Self {
        Self {
            newest: keep.newest.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            younger: keep.younger_ms.map(Duration::from_millis),
        }
    }
}

/// Reads the two as users write them.
///
/// # Errors
/// Wrong usage, with examples.
pub(crate) fn parse(newest: Option<&str>, younger: Option<&str>) -> Outcome<Keep> {
    Ok(Keep { newest: newest.map(count).transpose()?, younger_ms: younger.map(age).transpose()? })
}

fn count(text: &str) -> Outcome<u32> {
    let count = text.trim().parse().ok().filter(|n| *n > 0);
    count.ok_or_else(|| {
        Failure::usage(format!("{text:?} is not a number of checkpoints")).remedy("write 1 or more")
    })
}

fn age(text: &str) -> Outcome<u64> {
    let age = humantime::parse_duration(text.trim()).map_err(|error| {
        Failure::usage(format!("{text:?} is not a time: {error}")).remedy("write it like 90s, 30m, 12h or 7d")
    })?;
    Ok(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert!(!parse(None, None).unwrap().is_some());
        let keep = parse(Some("3"), Some("1h 30m")).unwrap();
        assert_eq!(keep, Keep { newest: Some(3), younger_ms: Some(5_400_000) });
        for (newest, younger) in
            [(Some("0"), None), (Some("-1"), None), (Some("all"), None), (None, Some("5"))]
        {
            assert_eq!(parse(newest, younger).unwrap_err().code, 2);
        }
    }
}
