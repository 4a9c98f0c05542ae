//! /proc/PID/task/TID/stat.
use super::{malformed, read};
use crate::error::SysResult;

/// The fields of stat that the engine uses, by their names in proc(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Stat {
    pub state: char,
    pub ppid: i32,
    pub pgrp: i32,
    pub session: i32,
    pub tty_nr: i32,
    pub tpgid: i32,
    pub flags: u64,
    pub starttime: u64,
    pub startcode: u64,
    pub endcode: u64,
    pub startstack: u64,
    pub exit_signal: i32,
    pub processor: u32,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    pub exit_code: i32,
}

/// PF_KTHREAD of [`Stat::flags`].
pub const PF_KTHREAD: u64 = 0x0020_0000;
/// PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE of [`Stat::flags`], which PR_SET_IO_FLUSHER sets.
pub const PF_IO_FLUSHER: u64 = 0x0018_0000;
/// PF_EXITING of [`Stat::flags`].
pub const PF_EXITING: u64 = 0x4;

impl Stat {
    /// Reads the stat of thread `tid` of `pid`.
    pub fn of(pid: i32, tid: i32) -> SysResult<Self> {
        let bytes = read(pid, &format!("task/{tid}/stat"))?;
        Self::parse(&bytes).ok_or_else(|| malformed("parse of stat", tid))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        // The name is in parentheses and may hold anything, parentheses included.
        let end = bytes.iter().rposition(|byte| *byte == b')')?;
        let text = std::str::from_utf8(&bytes[end + 1..]).ok()?;
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let int = |number: usize| fields.get(number - 3)?.parse::<i32>().ok();
        let word = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            ppid: int(4)?,
            pgrp: int(5)?,
            session: int(6)?,
            tty_nr: int(7)?,
            tpgid: int(8)?,
            flags: word(9)?,
            starttime: word(22)?,
            startcode: word(26)?,
            endcode: word(27)?,
            startstack: word(28)?,
            exit_signal: int(38)?,
            processor: u32::try_from(word(39)?).ok()?,
            start_data: word(45)?,
            end_data: word(46)?,
            start_brk: word(47)?,
            arg_start: word(48)?,
            arg_end: word(49)?,
            env_start: word(50)?,
            env_end: word(51)?,
            exit_code: int(52)?,
        })
    }

    /// It is a thread of the kernel's own.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// It has ended, or it is on its way out: its memory and files may be gone before its state says so.
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        matches!(self.state, 'Z' | 'X') || self.flags & PF_EXITING != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_stat_names_our_parent() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stat = Stat::of(pid, pid).unwrap();
        assert_eq!(stat.ppid, i32::try_from(std::os::unix::process::parent_id()).unwrap());
        assert!(!stat.is_kernel_thread());
        assert_eq!(stat.exit_signal, libc::SIGCHLD);
    }

    #[test]
    fn a_name_with_parentheses_is_no_obstacle() {
        let rest = " S 1 2 3 0 -1 4194560".to_owned() + &" 7".repeat(45);
        let stat = Stat::parse(format!("42 (a) b){rest}").as_bytes()).unwrap();
        assert_eq!((stat.ppid, stat.pgrp, stat.session), (1, 2, 3));
    }
}
