//! Whether the processors have time to spare for what a save does after its pause.
use nix::sys::resource::{Usage, UsageWho, getrusage};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The kernel counts in ticks of some milliseconds: what is shorter tells nothing.
const SHORTEST: Duration = Duration::from_millis(50);
/// Part of all processor time, in percent, that is idle where there is some to spare.
const SPARE: u64 = 12;
/// The same of one processor: with few of them it is more of all.
const SPARE_OF_ONE: u64 = 50;
/// Part of it that others must use, for that what is missing is missed by them.
const OTHERS: u64 = 25;

/// Ticks of all processors together, and of this daemon with its workers, since each began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
    own: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let (all, idle) = of_all(&stat)?;
        Some(Self { all, idle, own: own()? })
    }

    /// Whether others used the processors since `before`, so that no time was to spare.
    fn scarce_since(&self, before: &Self, processors: u64) -> bool {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle);
        let others = (all - idle.min(all)).saturating_sub(self.own.saturating_sub(before.own));
        let spare = SPARE.max(SPARE_OF_ONE / processors.max(1));
        idle * 100 < all * spare && others * 100 > all * OTHERS
    }
}

/// Ticks in all, and idle, of the first line of /proc/stat.
fn of_all(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; what guests use is in user.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().sum(), idle))
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap_or(1))
}

/// Ticks of this process, and of its children that have ended.
fn own() -> Option<u64> {
    // SAFETY: no pointers.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    let of = |usage: Usage| {
        let micros =
            [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
        u64::try_from(micros.iter().sum::<i64>()).unwrap_or(0) * per_second / 1_000_000
    };
    let who = [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN];
    who.into_iter().map(|who| getrusage(who).ok().map(of)).sum()
}

/// Looks at the processors from save to save.
#[derive(Debug, Default)]
pub(super) struct Processors {
    before: Cell<Option<(Instant, Ticks)>>,
    scarce: Cell<bool>,
}

impl Processors {
    /// Begins to look, where nobody has.
    pub(super) fn watch(&self) {
        if self.before.get().is_none() {
            self.before.set(Ticks::now().map(|ticks| (Instant::now(), ticks)));
        }
    }

    /// Whether there was no time to spare since this was asked the last time.
    pub(super) fn are_scarce(&self) -> bool {
        let Some((since, before)) = self.before.get() else {
            self.watch();
            return false;
        };
        if since.elapsed() >= SHORTEST
            && let Some(now) = Ticks::now()
        {
            self.scarce.set(now.scarce_since(&before, processors()));
            self.before.set(Some((Instant::now(), now)));
        }
        self.scarce.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_told_from_that_of_others_and_our_own() {
        let stat = "cpu  100 10 50 1000 40 1 2 3 7 0\ncpu0 1 2 3\n";
        assert_eq!(of_all(stat), Some((1206, 1040)));
        assert_eq!(of_all("cpu  100 10"), None);
        let before = Ticks { all: 1000, idle: 500, own: 20 };
        for (all, idle, own, scarce) in [
            (200, 0, 20, true),   // two busy programs, and a little of ours
            (200, 100, 0, false), // one program on one of two processors
            (200, 0, 180, false), // nobody but we
            (200, 20, 100, true), // one program, and we on what it leaves
            (0, 0, 0, false),
        ] {
            let now = Ticks { all: 1000 + all, idle: 500 + idle, own: 20 + own };
            assert_eq!(now.scarce_since(&before, 2), scarce, "{all} {idle} {own}");
        }
        // Less than half a processor is idle: of two that is much, of eight a little.
        let now = Ticks { all: 1200, idle: 536, own: 20 };
        assert!(now.scarce_since(&before, 2) && !now.scarce_since(&before, 8));
        assert!(own().is_some() && Ticks::now().is_some_and(|ticks| ticks.all > ticks.idle));
    }
}
