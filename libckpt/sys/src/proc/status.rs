//! /proc/PID/task/TID/status.
use super::{malformed, read_text};
use crate::error::SysResult;

/// The lines that tell of speculation, by number of PR_SPEC_STORE_BYPASS and PR_SPEC_INDIRECT_BRANCH.
pub const SPECULATION: [&str; 2] = ["Speculation_Store_Bypass", "SpeculationIndirectBranch"];

/// The lines of status by their names.
#[derive(Debug, Clone)]
pub struct Status {
    tid: i32,
    text: String,
}

impl Status {
    /// Reads the status of thread `tid` of `pid`.
    pub fn of(pid: i32, tid: i32) -> SysResult<Self> {
        Ok(Self { tid, text: read_text(pid, &format!("task/{tid}/status"))? })
    }

    /// The text of line `name`, if the kernel has it.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// The decimal numbers of line `name`.
    #[must_use]
    pub fn numbers(&self, name: &str) -> Vec<u64> {
        let words = self.text(name).unwrap_or_default().split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// The one decimal number of line `name`.
    pub fn number(&self, name: &'static str) -> SysResult<u64> {
        self.numbers(name).first().copied().ok_or_else(|| malformed(name, self.tid))
    }

    /// The hexadecimal mask of line `name`.
    pub fn mask(&self, name: &'static str) -> SysResult<u64> {
        let text = self.text(name).unwrap_or_default();
        u64::from_str_radix(text, 16).map_err(|_| malformed(name, self.tid))
    }

    /// What a thread has chosen (PR_SET_SPECULATION_CTRL), by a line of [`SPECULATION`]: PR_SPEC_ENABLE (2), PR_SPEC_DISABLE (4) or
    /// PR_SPEC_FORCE_DISABLE (8); 0 where it has no choice.
    #[must_use]
    pub fn speculation(&self, line: &str) -> u32 {
        match self.text(line) {
            Some("thread vulnerable" | "conditional enabled") => 2,
            Some("thread mitigated" | "conditional disabled") => 4,
            Some("thread force mitigated" | "conditional force disabled") => 8,
            _ => 0,
        }
    }

    /// The octal number of line `name`.
    pub fn octal(&self, name: &'static str) -> SysResult<u32> {
        let text = self.text(name).unwrap_or_default();
        u32::from_str_radix(text, 8).map_err(|_| malformed(name, self.tid))
    }

    /// The thread's id in the innermost PID namespace that it is in.
    #[must_use]
    pub fn inner_pid(&self) -> i32 {
        self.numbers("NSpid").last().and_then(|pid| i32::try_from(*pid).ok()).unwrap_or(self.tid)
    }
}
