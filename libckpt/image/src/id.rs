//! Names of checkpoints.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use wincode::{SchemaRead, SchemaWrite};

/// Crockford's base 32: no letter that is taken for a digit, and sorted as the numbers are.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TIME_DIGITS: usize = 9;
const RANDOM_DIGITS: usize = 3;
const LENGTH: usize = TIME_DIGITS + RANDOM_DIGITS;
/// 2025-01-01T00:00:00Z, ms since the epoch.
const EPOCH_MS: u64 = 1_735_689_600_000;

/// The name of a checkpoint: twelve characters of Crockford's base 32, unique, and sorted by time within a store.
///
/// Nine digits are the milliseconds since 2025, three are random, so that stores of several hosts do not
/// give the same name either. Upper case is accepted when parsing, and `o` for 0, `i` and `l` for 1.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaRead, SchemaWrite, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct CheckpointId(String);

/// The text is not the name of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: not a checkpoint id (twelve letters and digits); `ckpt list` shows the ids")]
pub struct InvalidCheckpointId(pub String);

impl CheckpointId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A new id, later than `newest` whatever the clock says.
    pub(crate) fn generate(newest: Option<&Self>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let now = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(EPOCH_MS);
        let time = newest.map_or(now, |n| now.max(n.time() + 1));
        let mut random = [0; 8];
        // Without entropy, which Linux never lacks after boot, the time alone still makes the id unique in its store.
        let _ = getrandom::fill(&mut random);
        let mut text = digits(time, TIME_DIGITS);
        text.push_str(&digits(u64::from_le_bytes(random), RANDOM_DIGITS));
        Self(text)
    }

    /// Milliseconds since 2025 as the id has them.
    fn time(&self) -> u64 {
        self.0.bytes().take(TIME_DIGITS).fold(0, |n, c| n << 5 | value(c).unwrap_or(0))
    }

    /// Whether the text, which may come from a file, is in canonical form.
    pub(crate) fn is_canonical(&self) -> bool {
        self.0.len() == LENGTH && self.0.bytes().all(|c| ALPHABET.contains(&c))
    }
}

/// The lowest `count` base-32 digits of `n`, highest first.
fn digits(n: u64, count: usize) -> String {
    let digit = |i| usize::try_from(n >> (5 * i) & 31).unwrap_or_default();
    (0..count).rev().map(|i| char::from(ALPHABET[digit(i)])).collect()
}

fn value(c: u8) -> Option<u64> {
    let c = match c.to_ascii_lowercase() {
        b'o' => b'0',
        b'i' | b'l' => b'1',
        c => c,
    };
    ALPHABET.iter().zip(0..).find_map(|(a, n)| (*a == c).then_some(n))
}

impl FromStr for CheckpointId {
    type Err = InvalidCheckpointId;

    fn from_str(text: &str) -> Result<Self, InvalidCheckpointId> {
        let invalid = || InvalidCheckpointId(text.to_owned());
        if text.len() != LENGTH {
            return Err(invalid());
        }
        let canonical = text.bytes().map(|c| value(c).map(|n| digits(n, 1))).collect::<Option<String>>();
        canonical.map(Self).ok_or_else(invalid)
    }
}

impl TryFrom<String> for CheckpointId {
    type Error = InvalidCheckpointId;

    fn try_from(text: String) -> Result<Self, InvalidCheckpointId> {
        text.parse()
    }
}

impl From<CheckpointId> for String {
    fn from(id: CheckpointId) -> Self {
        id.0
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_by_time_even_when_the_clock_steps_back() {
        let mut newest = CheckpointId::generate(None);
        for _ in 0..1000 {
            let next = CheckpointId::generate(Some(&newest));
            assert!(next > newest && next.is_canonical());
            newest = next;
        }
    }

    #[test]
    fn parses_what_people_type_and_nothing_else() {
        assert_eq!("0OIL5AZ00000".parse::<CheckpointId>().unwrap().as_str(), "00115az00000");
        for bad in ["", "0", "0000000000000", "../../../etc", "00000000000/", "00000000000u", "éééééé"]
        {
            assert_eq!(bad.parse::<CheckpointId>(), Err(InvalidCheckpointId(bad.into())));
        }
    }
}
