//! System calls that the freeze interrupted.
//!
//! A stopped thread's registers say what the kernel is about to do with its call (arch/x86/kernel/signal.c). Most calls are simply
//! made again. A call with a relative time-out has its progress in a restart block that nobody can read; what is left of its time is
//! worked out here, so that restore can give the thread such a block again:
//! - from the remainder that nanosleep(2) writes for its caller;
//! - from the parent checkpoint's record, when the thread still is in the call that was interrupted then;
//! - else from the time at which the thread last ran (`se.exec_start` in /proc/PID/task/TID/sched), read before the freeze.
use crate::error::CaptureResult;
use crate::inventory::clock_ns;
use ckpt_image::ImageRecords;
use ckpt_image::record::{RestartV1, ThreadV1};
use ckpt_sys::RemoteAddr;
use ckpt_sys::arch::{Gpr, restart};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::{proc, sched};
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

/// When each thread last ran, CLOCK_MONOTONIC in ns, or later: a sleep may come out longer than it was to be, never shorter.
///
/// The scheduler's clock leaves out what the hypervisor and interrupts took, so each processor has one of its own, which falls
/// behind. It is compared with CLOCK_MONOTONIC now, on the processor that the thread ran on.
#[derive(Debug, Default)]
pub(crate) struct LastRan {
    slept: HashMap<i32, Slept>,
    /// Flags (PF_*) of all threads.
    flags: HashMap<i32, u64>,
}

/// A thread that was asleep.
#[derive(Debug, Clone, Copy)]
struct Slept {
    /// Since when.
    since: i64,
    /// How often it had gone to sleep by then.
    times: u64,
}

impl LastRan {
    /// Reads it for the threads of `pid`, which must still be running.
    pub(crate) fn read(pid: i32) -> Self {
        let tids = proc::threads::list(pid).unwrap_or_default();
        let stats = tids.into_iter().filter_map(|tid| Some((tid, proc::stat::Stat::of(pid, tid).ok()?)));
        let stats: Vec<_> = stats.collect();
        let flags = stats.iter().map(|(tid, stat)| (*tid, stat.flags)).collect();
        let asleep: Vec<_> = stats.into_iter().filter(|(_, stat)| stat.state == 'S').collect();
        let mut offsets = HashMap::new();
        // On a thread of its own: it moves from processor to processor.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (_, stat) in &asleep {
                    offsets.entry(stat.processor).or_insert_with(|| scheduler_clock_offset(stat.processor));
                }
            });
        });
        let times = asleep.into_iter().filter_map(|(tid, stat)| {
            let offset = (*offsets.get(&stat.processor)?)?;
            let text = proc::read_text(pid, &format!("task/{tid}/sched")).ok()?;
            Some((tid, Slept { since: exec_start(&text)? + offset, times: voluntary_switches(&text)? }))
        });
        Self { slept: times.collect(), flags }
    }

    /// The flags (PF_*) that a thread had.
    pub(crate) fn flags(&self, tid: i32) -> Option<u64> {
        self.flags.get(&tid).copied()
    }

    /// The threads.
    pub(crate) fn tids(&self) -> impl Iterator<Item = i32> + use<'_> {
        self.flags.keys().copied()
    }

    /// How long stopped thread `tid` of `pid` had slept at `now`; None when it is not known.
    fn slept(&self, pid: i32, tid: i32, now: i64) -> Option<u64> {
        let slept = self.slept.get(&tid)?;
        let text = proc::read_text(pid, &format!("task/{tid}/sched")).ok()?;
        // Its stop is one more time. Any other means that it ran in between, and began another sleep.
        (voluntary_switches(&text)? <= slept.times + 1).then(|| unsigned(now - slept.since))
    }
}

/// What must be added to the scheduler's clock of a processor to get CLOCK_MONOTONIC. None: we may not run there.
fn scheduler_clock_offset(processor: u32) -> Option<i64> {
    let pid = std::process::id().cast_signed();
    // SAFETY: no arguments.
    let tid = unsafe { libc::gettid() };
    let processor = usize::try_from(processor).ok()?;
    let mut mask = vec![0; processor / 64 * 8 + 8];
    mask[processor / 8] = 1 << (processor % 8);
    sched::set_affinity(tid, &mask).ok()?;
    // Giving up the processor makes the kernel take the time down.
    std::thread::sleep(std::time::Duration::from_micros(1));
    let scheduled = exec_start(&proc::read_text(pid, &format!("task/{tid}/sched")).ok()?)?;
    Some(clock_ns(libc::CLOCK_MONOTONIC) - scheduled)
}

/// The value of a line of /proc/PID/task/TID/sched.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split([' ', ':']).next() == Some(name))?;
    Some(line.rsplit_once(':')?.1.trim())
}

/// `se.exec_start`, which the kernel prints in ms with six decimals.
fn exec_start(text: &str) -> Option<i64> {
    let (ms, ns) = field(text, "se.exec_start")?.split_once('.')?;
    Some(ms.parse::<i64>().ok()? * 1_000_000 + ns.parse::<i64>().ok()?)
}

fn voluntary_switches(text: &str) -> Option<u64> {
    field(text, "nr_voluntary_switches")?.parse().ok()
}

/// What the parent checkpoint says of a thread's call.
#[derive(Debug, Clone)]
pub(crate) struct Earlier {
    /// Its restart record.
    pub(crate) restart: RestartV1,
    /// CLOCK_MONOTONIC of the parent checkpoint, if the process has run through since then; None: it was restored from it.
    pub(crate) taken_at: Option<i64>,
}

impl Earlier {
    /// What the parent checkpoint says of threads whose calls it interrupted, by thread.
    pub(crate) fn of_threads(parent: Option<&ImageRecords>) -> CaptureResult<HashMap<i32, Self>> {
        let Some(image) = parent else { return Ok(HashMap::new()) };
        let inventory = image.inventory()?;
        let threads: Vec<ThreadV1> = image.records()?;
        let calls = threads.into_iter().filter_map(|thread| {
            let restart = thread.restart?;
            // A process younger than the checkpoint was restored from it, and its time-outs began anew.
            let ticks = Stat::of(thread.pid, thread.tid).ok()?.starttime;
            let born = ticks.saturating_mul(1_000_000_000 / clock_ticks());
            let taken_at = i64::try_from(born)
                .is_ok_and(|born| born < inventory.boottime_ns)
                .then_some(inventory.monotonic_ns);
            Some((thread.tid, Self { restart, taken_at }))
        });
        Ok(calls.collect())
    }
}

fn clock_ticks() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

/// Rewrites registers and says what restore needs, for one thread.
pub(crate) struct Interrupted<'a> {
    /// Process.
    pub(crate) pid: i32,
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
        self.last_ran.slept(self.pid, self.tid, self.now).unwrap_or(0)
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
