//! System calls that the freeze interrupted.
//!
//! A stopped thread's registers say what the kernel is about to do with its call (arch/x86/kernel/signal.c). Most calls are simply
//! made again. A call with a relative time-out has its progress in a restart block that nobody can read; what is left of its time is
//! worked out here, so that restore can give the thread such a block again:
//! - from the remainder that nanosleep(2) writes for its caller;
//! - from the parent checkpoint's record, when the thread still is in the call that was interrupted then;
//! - else from the time at which the thread last ran (`se.exec_start` in /proc/PID/task/TID/sched), read before the freeze.
use crate::inventory::clock_ns;
use ckpt_image::record::RestartV1;
use ckpt_sys::RemoteAddr;
use ckpt_sys::arch::{Gpr, restart};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc;
use std::collections::HashMap;

const FUTEX_COMMAND_MASK: u64 = 0x7f;
const FUTEX_WAIT: u64 = 0;
const FUTEX_WAIT_BITSET: u64 = 9;
const TIMER_ABSTIME: u64 = 1;

const RESTART_SYSCALL: u64 = libc::SYS_restart_syscall.cast_unsigned();
const NANOSLEEP: u64 = libc::SYS_nanosleep.cast_unsigned();
const CLOCK_NANOSLEEP: u64 = libc::SYS_clock_nanosleep.cast_unsigned();
const POLL: u64 = libc::SYS_poll.cast_unsigned();
const FUTEX: u64 = libc::SYS_futex.cast_unsigned();

/// When each thread last ran, CLOCK_MONOTONIC in ns.
#[derive(Debug, Default)]
pub(crate) struct LastRan(HashMap<i32, i64>);

impl LastRan {
    /// Reads it for the threads of `pid`, which must still be running.
    pub(crate) fn read(pid: i32) -> Self {
        let Some(offset) = scheduler_clock_offset() else { return Self::default() };
        let tids = proc::threads::list(pid).unwrap_or_default();
        let times = tids.into_iter().filter_map(|tid| Some((tid, exec_start(pid, tid)? + offset)));
        Self(times.collect())
    }
}

/// What must be added to the scheduler's clock to get CLOCK_MONOTONIC.
fn scheduler_clock_offset() -> Option<i64> {
    // Giving up the processor makes the kernel take the time down.
    std::thread::sleep(std::time::Duration::from_micros(1));
    let pid = std::process::id().cast_signed();
    // SAFETY: no arguments.
    let tid = unsafe { libc::gettid() };
    Some(clock_ns(libc::CLOCK_MONOTONIC) - exec_start(pid, tid)?)
}

/// `se.exec_start`, which the kernel prints in ms with six decimals.
fn exec_start(pid: i32, tid: i32) -> Option<i64> {
    let text = proc::read_text(pid, &format!("task/{tid}/sched")).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.exec_start"))?;
    let (ms, ns) = line.rsplit_once(':')?.1.trim().split_once('.')?;
    Some(ms.parse::<i64>().ok()? * 1_000_000 + ns.parse::<i64>().ok()?)
}

/// What the parent checkpoint says of a thread's call.
#[derive(Debug, Clone)]
pub(crate) struct Earlier {
    /// Its restart record.
    pub(crate) restart: RestartV1,
    /// CLOCK_MONOTONIC of the parent checkpoint, if the process has run through since then; None: it was restored from it.
    pub(crate) taken_at: Option<i64>,
}

/// Rewrites registers and says what restore needs, for one thread.
pub(crate) struct Interrupted<'a> {
    /// Thread.
    pub(crate) tid: i32,
    /// Its process's memory.
    pub(crate) memory: &'a ProcessMemory,
    /// When the threads last ran.
    pub(crate) last_ran: &'a LastRan,
    /// CLOCK_MONOTONIC at the freeze.
    pub(crate) now: i64,
    /// The same thread in the parent checkpoint, if it was in such a call.
    pub(crate) earlier: Option<Earlier>,
    /// A signal waits that the thread will take as soon as it runs.
    pub(crate) signal_waits: bool,
}

impl Interrupted<'_> {
    /// The restart record of the call in `gpr`, whose registers are put in the form in which they are stored.
    pub(crate) fn resolve(&self, gpr: &mut Gpr) -> Option<RestartV1> {
        let nr = gpr.interrupted_syscall()?;
        if gpr.result() == i64::from(-libc::EINTR) && !self.signal_waits && is_restartable_wait(nr, gpr) {
            gpr.rax = restart::ERESTARTNOHAND.cast_unsigned();
            return None;
        }
        if gpr.result() != restart::ERESTART_RESTARTBLOCK {
            return None;
        }
        let args = gpr.syscall_args();
        let (nr, remaining_ns) =
            if nr == RESTART_SYSCALL { self.restarted(args)? } else { (nr, self.first(nr, args)) };
        gpr.orig_rax = nr;
        if is_absolute(nr, args) {
            // Its arguments still say when it ends.
            gpr.rax = restart::ERESTARTNOHAND.cast_unsigned();
            return None;
        }
        Some(RestartV1 { nr, args, remaining_ns })
    }

    /// What is left of a call that is interrupted for the first time.
    fn first(&self, nr: u64, args: [u64; 6]) -> Option<u64> {
        let asked = self.asked_ns(nr, args)?;
        Some(self.remainder(nr, args).unwrap_or_else(|| asked.saturating_sub(self.slept())).min(asked))
    }

    /// The call behind restart_syscall(2), and what is left of it.
    fn restarted(&self, args: [u64; 6]) -> Option<(u64, Option<u64>)> {
        if let Some(earlier) = self.earlier.as_ref().filter(|earlier| earlier.restart.args == args) {
            let nr = earlier.restart.nr;
            let left = earlier.restart.remaining_ns.map(|left| {
                let passed = earlier.taken_at.map_or_else(|| self.slept(), |then| unsigned(self.now - then));
                self.remainder(nr, args).unwrap_or_else(|| left.saturating_sub(passed))
            });
            return Some((nr, left));
        }
        // Somebody else interrupted it (SIGSTOP): its arguments tell which call it is.
        let nr = self.guess(args)?;
        Some((nr, self.first(nr, args)))
    }

    fn guess(&self, args: [u64; 6]) -> Option<u64> {
        const SMALLEST_ADDRESS: u64 = 4096;
        let [first, second, third, ..] = args;
        if first < SMALLEST_ADDRESS {
            return Some(CLOCK_NANOSLEEP);
        }
        if self.timespec(first).is_some() && (second == 0 || second >= SMALLEST_ADDRESS) {
            return Some(NANOSLEEP);
        }
        let command = second & FUTEX_COMMAND_MASK;
        if matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET)
            && second < 0x200
            && self.timespec(args[3]).is_some()
        {
            return Some(FUTEX);
        }
        (i32::try_from(third).is_ok()).then_some(POLL)
    }

    /// The time-out in the arguments, ns; None: none.
    fn asked_ns(&self, nr: u64, args: [u64; 6]) -> Option<u64> {
        match nr {
            NANOSLEEP => self.timespec(args[0]),
            CLOCK_NANOSLEEP => self.timespec(args[2]),
            FUTEX => self.timespec(args[3]),
            POLL => {
                // An int in the low half of the register; negative: for ever.
                let ms = u32::try_from(args[2] & 0xffff_ffff).unwrap_or(0).cast_signed();
                u64::try_from(ms).ok().map(|ms| ms * 1_000_000)
            }
            _ => None,
        }
    }

    /// What nanosleep(2) wrote for its caller when the freeze interrupted it.
    fn remainder(&self, nr: u64, args: [u64; 6]) -> Option<u64> {
        match nr {
            NANOSLEEP if args[1] != 0 => self.timespec(args[1]),
            CLOCK_NANOSLEEP if args[3] != 0 => self.timespec(args[3]),
            _ => None,
        }
    }

    fn slept(&self) -> u64 {
        self.last_ran.0.get(&self.tid).map_or(0, |then| unsigned(self.now - then))
    }

    fn timespec(&self, address: u64) -> Option<u64> {
        let address = RemoteAddr::new(address);
        let seconds = self.memory.read_u64(address).ok()?;
        let ns = self.memory.read_u64(address.offset(8)).ok()?;
        (ns < 1_000_000_000).then(|| seconds.checked_mul(1_000_000_000)?.checked_add(ns)).flatten()
    }
}

fn unsigned(ns: i64) -> u64 {
    u64::try_from(ns).unwrap_or(0)
}

fn is_absolute(nr: u64, args: [u64; 6]) -> bool {
    match nr {
        CLOCK_NANOSLEEP => args[1] & TIMER_ABSTIME != 0,
        FUTEX => args[1] & FUTEX_COMMAND_MASK != FUTEX_WAIT,
        _ => false,
    }
}

/// Calls that return EINTR on any wake-up although no handler ran (signal(7)), and that wait without a time-out: they can be
/// made again unseen.
fn is_restartable_wait(nr: u64, gpr: &Gpr) -> bool {
    let [_, _, third, fourth, ..] = gpr.syscall_args();
    let forever = u64::from(u32::MAX);
    match i64::try_from(nr).unwrap_or(-1) {
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => fourth & forever == forever,
        libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => fourth == 0,
        libc::SYS_rt_sigtimedwait => third == 0,
        libc::SYS_semop | libc::SYS_msgrcv | libc::SYS_msgsnd => true,
        _ => false,
    }
}
