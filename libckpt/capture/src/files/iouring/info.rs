//! What fdinfo says of an io_uring instance.
use super::CLOSE;
use crate::error::CaptureResult;
use ckpt_sys::proc::{self, malformed, maps::unescape};

/// It.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RingInfo {
    /// Entries of the queues.
    pub(super) submissions: u32,
    pub(super) completions: u32,
    /// Requests that were taken from the submission queue.
    pub(super) submitted: u32,
    /// Completions that were put into the completion queue.
    pub(super) completed: u32,
    /// A thread of the kernel's submits.
    pub(super) polled: bool,
    /// Operations that wait for a file to be ready.
    pub(super) waiting: Vec<u32>,
    /// Completions that found no room.
    pub(super) overflown: bool,
    /// NAPI is on.
    pub(super) napi: bool,
    /// Slots for registered files, and the links of those that are used.
    pub(super) file_slots: usize,
    pub(super) files: Vec<(usize, Vec<u8>)>,
    /// Registered buffers by slot: address and bytes; (0, 0) is none.
    pub(super) buffers: Vec<(u64, u64)>,
}

impl RingInfo {
    /// Reads it.
    pub(super) fn read(pid: i32, fd: i32) -> CaptureResult<Self> {
        let text = proc::read_text(pid, &format!("fdinfo/{fd}"))?;
        Ok(Self::parse(&text).ok_or_else(|| malformed("parse of an io_uring's fdinfo", pid))?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut info = Self { polled: true, ..Self::default() };
        let mut section = "";
        for line in text.lines() {
            let Some(entry) = line.strip_prefix(' ') else {
                let (name, value) = line.split_once(':')?;
                let value = value.trim();
                section = name;
                let mask = || u32::from_str_radix(value.strip_prefix("0x")?, 16).ok()?.checked_add(1);
                match name {
                    "SqMask" => info.submissions = mask()?,
                    "CqMask" => info.completions = mask()?,
                    "CachedSqHead" => info.submitted = value.parse().ok()?,
                    "CachedCqTail" => info.completed = value.parse().ok()?,
                    "SqThread" => info.polled = value != "-1",
                    "UserFiles" => info.file_slots = value.parse().ok()?,
                    "UserBufs" => info.buffers = vec![(0, 0); value.parse().ok()?],
                    "NAPI" => info.napi = value != "disabled",
                    _ => {}
                }
                continue;
            };
            let entry = entry.trim();
            match section {
                "PollList" => {
                    let operation = entry.strip_prefix("op=")?.split(',').next()?;
                    info.waiting.push(operation.parse().ok()?);
                }
                "CqOverflowList" => info.overflown = true,
                "UserFiles" => {
                    let (slot, link) = entry.split_once(": ")?;
                    if link != "<none>" {
                        info.files.push((slot.parse().ok()?, unescape(link.as_bytes())));
                    }
                }
                "UserBufs" => {
                    let (slot, place) = entry.split_once(": ")?;
                    if let Some((address, len)) = place.split_once('/') {
                        let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
                        *info.buffers.get_mut(slot.parse::<usize>().ok()?)? = (address, len.parse().ok()?);
                    }
                }
                _ => {}
            }
        }
        (info.submissions > 0 && info.completions > 0).then_some(info)
    }

    /// Requests in flight. Completions of one that tells several times, and requests that are not told of, make it a guess.
    pub(super) fn in_flight(&self) -> u32 {
        self.submitted.wrapping_sub(self.completed)
    }

    /// Why it cannot be saved as it is, and what to do. Of a `running` process requests come and go.
    pub(super) fn refusal(&self, running: bool) -> Option<(String, &'static str)> {
        if self.polled {
            let reason = "a thread of the kernel's submits its requests (IORING_SETUP_SQPOLL), whose settings the kernel does not show";
            return Some((reason.into(), CLOSE));
        }
        if !self.waiting.is_empty() {
            let operations: Vec<String> = self.waiting.iter().map(u32::to_string).collect();
            let reason = format!(
                "{} requests of it wait for a file to be ready (operations {})",
                self.waiting.len(),
                operations.join(", ")
            );
            return Some((
                reason,
                "Save when they have ended, or let the program wait with epoll (for libuv: UV_USE_IO_URING=0)",
            ));
        }
        if self.napi {
            return Some(("it polls network devices (IORING_REGISTER_NAPI)".into(), CLOSE));
        }
        if running {
            return None;
        }
        if self.overflown {
            return Some((
                "completions of it found no room in its queue".into(),
                "Save when the program has read them",
            ));
        }
        match self.in_flight() {
            0 => None,
            count if count < 1 << 31 => {
                let reason = format!(
                    "{count} requests of it are in flight (or were submitted with IOSQE_CQE_SKIP_SUCCESS)"
                );
                Some((reason, "Save when they have ended"))
            }
            _ => {
                let reason = "it has had requests that complete more than once, so the kernel does not tell whether any is in flight";
                Some((reason.into(), CLOSE))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t5098958\nSqMask:\t0x7\nSqHead:\t3\nSqTail:\t3\nCachedSqHead:\t3\n\
        CqMask:\t0xf\nCqHead:\t0\nCqTail:\t1\nCachedCqTail:\t1\nSQEs:\t0\nCQEs:\t1\n    0: user_data:77, res:0, flag:0\nSqThread:\t-1\n\
        SqThreadCpu:\t-1\nSqTotalTime:\t0\nSqWorkTime:\t0\nUserFiles:\t3\n    0: /a\\040b\n    2: anon_inode:[eventfd]\nUserBufs:\t2\n\
        \x20   1: 0x7f6f879dc000/8192\nPollList:\n  op=22, task_works=0\nCqOverflowList:\nNAPI:\tdisabled\n";

    #[test]
    fn what_fdinfo_says() {
        let info = RingInfo::parse(TEXT).unwrap();
        assert_eq!((info.submissions, info.completions, info.submitted, info.completed), (8, 16, 3, 1));
        assert_eq!(info.files, [(0, b"/a b".to_vec()), (2, b"anon_inode:[eventfd]".to_vec())]);
        assert_eq!((info.file_slots, &info.buffers[..]), (3, &[(0, 0), (0x7f6f_879d_c000, 8192)][..]));
        assert_eq!(
            (info.waiting.as_slice(), info.polled, info.overflown, info.napi),
            (&[22][..], false, false, false)
        );
        assert_eq!(info.in_flight(), 2);
        assert!(info.refusal(true).unwrap().0.contains("22"));
        let idle = RingInfo { waiting: Vec::new(), ..info };
        assert!(idle.refusal(true).is_none() && idle.refusal(false).unwrap().0.starts_with("2 requests"));
    }
}
