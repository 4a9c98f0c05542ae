//! Filters of system calls. They are added from the oldest to the newest, while the thread still has the privilege for it; they are not asked before
//! the thread is let go.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{SeccompFilterV1, SeccompV1, ThreadV1};
use ckpt_sys::ptrace;
use ckpt_sys::seccomp::{FILTER_LOG, FILTER_TSYNC, SET_MODE_FILTER, SET_MODE_STRICT};

/// What the threads of one process are under.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// By thread: its mode, and its filters, the oldest first.
    chains: Vec<(i32, SeccompV1, Vec<&'a SeccompFilterV1>)>,
    /// How many filters all threads have in common.
    common: usize,
    common_is_there: bool,
}

impl<'a> Plan<'a> {
    /// For these threads.
    pub(crate) fn new(filters: &'a [SeccompFilterV1], threads: &[&ThreadV1]) -> RestoreResult<Self> {
        let mut chains = Vec::with_capacity(threads.len());
        for thread in threads {
            chains.push((thread.tid, thread.seccomp, chain(filters, thread)?));
        }
        let first = chains.first().map_or(&[][..], |(.., chain)| chain);
        let is_common =
            |at: &usize| chains.iter().all(|(.., chain)| chain.get(*at).map(|f| f.id) == Some(first[*at].id));
        let common = (0..first.len()).take_while(is_common).count();
        Ok(Self { common, chains, common_is_there: false })
    }

    /// Has filters not be asked for the calls that we run in the threads.
    pub(crate) fn suspend(&self) -> RestoreResult<()> {
        if self.chains.iter().all(|(_, mode, _)| *mode == SeccompV1::Disabled) {
            return Ok(());
        }
        let options = ptrace::O_SYSGOOD | ptrace::O_EXITKILL | ptrace::O_SUSPEND_SECCOMP;
        for (tid, ..) in &self.chains {
            ptrace::set_options(*tid, options).map_err(|error| RestoreError::Machine {
                reason: format!(
                    "the program's seccomp filters cannot be suspended while it is restored: {error}"
                ),
                remedy: "Run ckpt as root, outside of containers and of seccomp filters".into(),
            })?;
        }
        Ok(())
    }

    /// Puts the thread of `builder` under its filters. What all threads have in common they share, so that the program can go on to add filters to all.
    pub(crate) fn restore(&mut self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        let tid = builder.remote.tid();
        let Some((_, mode, chain)) = self.chains.iter().find(|(other, ..)| *other == tid) else {
            return Ok(());
        };
        let object = format!("thread {tid}");
        if *mode == SeccompV1::Strict {
            builder.call("seccomp", &object, libc::SYS_seccomp, &[SET_MODE_STRICT, 0, 0])?;
        }
        let (common, own) = chain.split_at(self.common);
        if !self.common_is_there {
            let all = if self.chains.len() > 1 { FILTER_TSYNC } else { 0 };
            common.iter().try_for_each(|filter| add(builder, filter, all))?;
        }
        own.iter().try_for_each(|filter| add(builder, filter, 0))?;
        self.common_is_there = true;
        Ok(())
    }
}

/// A thread's filters, the oldest first.
fn chain<'a>(filters: &'a [SeccompFilterV1], thread: &ThreadV1) -> RestoreResult<Vec<&'a SeccompFilterV1>> {
    let mut chain = Vec::new();
    let mut next = match thread.seccomp {
        SeccompV1::Filter(id) => Some(id),
        _ => None,
    };
    while let Some(id) = next {
        let filter = filters.iter().find(|filter| filter.id == id);
        let Some(filter) = filter.filter(|_| chain.len() < filters.len()) else {
            let what = format!("a seccomp filter of thread {} is not in it", thread.tid);
            return Err(RestoreError::Inconsistent { what });
        };
        chain.push(filter);
        next = filter.previous;
    }
    chain.reverse();
    Ok(chain)
}

fn add(builder: &mut Builder<'_>, filter: &SeccompFilterV1, flags: u64) -> RestoreResult<()> {
    let program: Vec<u8> = filter.program.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = builder.place(&program)?.get();
    // struct sock_fprog: length (unsigned short), address.
    let len = u64::try_from(filter.program.len()).unwrap_or(u64::MAX);
    let bytes: Vec<u8> = [len, at].iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = builder.place(&bytes)?.get();
    let flags = flags | if filter.log { FILTER_LOG } else { 0 };
    let object = format!("thread {}", builder.remote.tid());
    let refused = builder.call("seccomp", &object, libc::SYS_seccomp, &[SET_MODE_FILTER, flags, at])?;
    if refused == 0 {
        return Ok(());
    }
    Err(RestoreError::Inconsistent {
        what: format!("thread {refused} cannot take the seccomp filters of {object}"),
    })
}
