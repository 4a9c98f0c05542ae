//! /proc/PID/task/TID/status.
use super::{malformed, read_text};
use crate::error::{SysError, SysResult};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The lines that tell of speculation, by number of PR_SPEC_STORE_BYPASS and PR_SPEC_INDIRECT_BRANCH.
pub const SPECULATION: [&str; 2] = ["Speculation_Store_Bypass", "SpeculationIndirectBranch"];

/// The status of a thread, open: it is read anew each time, in a third of the time that it takes to find it.
#[derive(Debug)]
pub struct OpenStatus {
    tid: i32,
    file: File,
}

impl OpenStatus {
    /// Opens the status of thread `tid` of `pid`.
    pub fn of(pid: i32, tid: i32) -> SysResult<Self> {
        let path = format!("/proc/{pid}/task/{tid}/status");
        let file = File::open(&path).map_err(|error| SysError::new("open", path, error))?;
        Ok(Self { tid, file })
    }

    /// What it says now.
    pub fn read(&self) -> SysResult<Status> {
        let failed = |error| SysError::new("read", format!("status of thread {}", self.tid), error);
        let mut text = vec![0; 4096];
        let mut len = 0;
        loop {
            let at = u64::try_from(len).unwrap_or(u64::MAX);
            let got = self.file.read_at(&mut text[len..], at).map_err(failed)?;
            len += got;
            if len < text.len() {
                text.truncate(len);
                let text = String::from_utf8(text);
                let text = text.unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
                return Ok(Status::new(self.tid, text));
            }
            text.resize(2 * len, 0);
        }
    }
}

/// The lines of status by their names.
#[derive(Debug, Clone)]
pub struct Status {
    tid: i32,
    text: String,
    /// Where each line begins, and where its name ends: many are looked for in each status.
    lines: Vec<(usize, usize)>,
}

impl Status {
    /// Reads the status of thread `tid` of `pid`.
    pub fn of(pid: i32, tid: i32) -> SysResult<Self> {
        Ok(Self::new(tid, read_text(pid, &format!("task/{tid}/status"))?))
    }

    fn new(tid: i32, text: String) -> Self {
        const LINES: usize = 64;
        let mut lines = Vec::with_capacity(LINES);
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            if let Some(len) = line.bytes().position(|byte| byte == b':') {
                lines.push((start, start + len));
            }
            start += line.len();
        }
        Self { tid, text, lines }
    }

    /// The text of line `name`, if the kernel has it.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let bytes = self.text.as_bytes();
        let (_, end) = self.lines.iter().find(|(start, end)| bytes[*start..*end] == *name.as_bytes())?;
        let value = &self.text[end + 1..];
        Some(value.split_once('\n').map_or(value, |(value, _)| value).trim())
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
        self.ids("NSpid").last().copied().unwrap_or(self.tid)
    }

    /// The ids of process and thread in the innermost PID namespace that they are in.
    #[must_use]
    pub fn inner_ids(&self) -> (i32, i32) {
        let tid = self.inner_pid();
        (self.ids("NStgid").last().copied().unwrap_or(tid), tid)
    }

    /// Line `name` of `NSpid`, `NSpgid` and `NSsid`: the id in each PID namespace from that which /proc shows to the innermost that the thread is in; 0 where it has none.
    #[must_use]
    pub fn ids(&self, name: &str) -> Vec<i32> {
        self.numbers(name).into_iter().map(|id| i32::try_from(id).unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_names() {
        let status = Status::new(
            7,
            "Name:\ta:b\nUmask:\t0022\nUid:\t1\t2\t3\t4\nno line\nGroups:\t \nSeccomp:\t2".into(),
        );
        assert_eq!(status.text("Name"), Some("a:b"));
        assert_eq!(status.octal("Umask").unwrap(), 0o22);
        assert_eq!(status.numbers("Uid"), [1, 2, 3, 4]);
        assert_eq!(
            (status.text("Groups"), status.text("Group"), status.text("no line")),
            (Some(""), None, None)
        );
        assert_eq!(status.number("Seccomp").unwrap(), 2);
    }
}
