//! `--memory`: what a save may take for itself.
use crate::failure::{Failure, Outcome};
use ckpt_image::Options;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Less is not worth it: more would be copied in the pause.
const LEAST: u64 = 32 << 20;

/// Bytes that a save may take for copies of pages and for what it stores, but for what is copied in the pause: that is as much as the program
/// has just written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory(u64);

impl Default for Memory {
    fn default() -> Self {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix("kB"));
        let available = line.and_then(|number| number.trim().parse::<u64>().ok()).map(|kib| kib << 10);
        Self::of_available(available.into_iter().chain(left_in_groups()).min())
    }
}

/// Bytes that each control group (version 2) that this process is in, and those above, may still take; none without limits.
fn left_in_groups() -> Vec<u64> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let number = |group: &Path, name: &str| -> Option<u64> {
        let path = Path::new("/sys/fs/cgroup").join(group).join(name);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let left = |group: &Path| {
        let most = number(group, "memory.max")?;
        // Page cache counts as taken, and is given back.
        Some(most.saturating_sub(number(group, "memory.current")?).max(most / 4))
    };
    Path::new(path).ancestors().filter_map(left).collect()
}

impl Memory {
    /// What a save may take where nobody has said it: an eighth of the memory that is to be had.
    fn of_available(bytes: Option<u64>) -> Self {
        let least = 256 << 20;
        let Some(bytes) = bytes else { return Self(least) };
        Self((bytes / 8).clamp(least.min(bytes / 2).max(LEAST), 4 << 30))
    }

    /// Bytes of the store's queue, and of each of its two tables.
    fn part(self) -> u64 {
        (self.0 / 8).min(64 << 20)
    }

    /// Bytes of pages that are copied while the job runs, and stored after its pause.
    pub(crate) fn copies(self) -> u64 {
        self.0 - 3 * self.part()
    }

    /// How the store is written.
    pub(crate) fn options(self) -> Options {
        let part = usize::try_from(self.part()).unwrap_or(usize::MAX);
        let mut options = Options::default();
        (options.queue_bytes, options.table_bytes) = (part, part);
        options
    }
}

/// Reads `512M`, `2G`, `1048576K`, or bytes.
///
/// # Errors
/// Wrong usage, with examples.
pub(crate) fn parse(text: &str) -> Outcome<Memory> {
    let wrong = |what: &str| Failure::usage(format!("{text:?} {what}")).remedy("write it like 256M or 2G");
    let number = text.trim();
    let (number, shift) = match number.chars().last() {
        Some('K' | 'k') => (&number[..number.len() - 1], 10),
        Some('M' | 'm') => (&number[..number.len() - 1], 20),
        Some('G' | 'g') => (&number[..number.len() - 1], 30),
        _ => (number, 0),
    };
    let number: u64 = number.parse().map_err(|_| wrong("is not a size"))?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(|| wrong("is too large"))?;
    if bytes < LEAST {
        return Err(wrong("is less than 32M"));
    }
    Ok(Memory(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("512M", 512 << 20), ("2g", 2 << 30), ("65536K", 64 << 20), (" 67108864 ", 64 << 20)]
        {
            assert_eq!(parse(text).unwrap(), Memory(bytes), "{text}");
        }
        for (available, bytes) in
            [(8 << 30, 1 << 30), (1 << 30, 256 << 20), (256 << 20, 128 << 20), (0, LEAST)]
        {
            assert_eq!(Memory::of_available(Some(available)), Memory(bytes));
        }
        assert_eq!(Memory::of_available(None), Memory(256 << 20));
        let memory = Memory(1 << 30);
        assert_eq!((memory.copies(), memory.options().queue_bytes), (832 << 20, 64 << 20));
        for text in ["", "M", "-1M", "1.5G", "31M", "99999999999G", "much"] {
            assert_eq!(parse(text).unwrap_err().code, 2, "{text}");
        }
    }
}
