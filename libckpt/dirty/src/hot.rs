//! Hot pages: those that are written in each interval between two looks. To protect one tells nothing that was not to be expected, and costs the program a page fault.
//!
//! What is not protected is dirty in the next look, whether it was written or not. So a page is left unprotected only for as many looks as had found it written in a row
//! before, and then protected once, to see whether it still is: at most half of what is saved for it is in vain.
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Looks in a row for which a page is left unprotected, at most.
const LONGEST: u8 = 8;
/// Runs of pages that are remembered. A process that writes to more, here and there, has few that are written each time.
const RUNS: usize = 1024;

/// What is known of the pages of a process from the looks before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotPages {
    /// Those that were written in the few milliseconds before each pause.
    pub(crate) pause: Streaks,
    /// Those that were written from one checkpoint to the next.
    pub(crate) interval: Streaks,
}

impl HotPages {
    /// Runs of pages that something is known of.
    pub(crate) fn runs(&self) -> usize {
        self.pause.0.len() + self.interval.0.len()
    }
}

/// A run of pages with the same past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    range: Range<u64>,
    /// Looks in a row that found it written, of those that could tell.
    written: u8,
    /// Looks to come that cannot tell, for it is not protected.
    unprotected: u8,
}

/// Pages that the last look found written, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streaks(Vec<Run>);

/// Which pages may be left unprotected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a run that is worth it.
    pub(crate) run: u64,
    /// Bytes in all.
    pub(crate) total: u64,
}

impl Streaks {
    /// The pages that are not protected, by address.
    pub(crate) fn unprotected(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().filter(|run| run.unprotected > 0).map(|run| run.range.clone())
    }

    /// What is known after a look that found `written`, which rises.
    pub(crate) fn after(&self, written: &[Range<u64>], limits: Limits) -> Self {
        let mut next = Self::default();
        let mut left = limits.total;
        let lowest = written.first().map_or(u64::MAX, |range| range.start);
        let mut known = self.0[self.0.partition_point(|run| run.range.end <= lowest)..].iter().peekable();
        for found in written {
            let mut at = found.start;
            while at < found.end {
                while known.next_if(|run| run.range.end <= at).is_some() {}
                let (end, run) = match known.peek() {
                    Some(run) if run.range.start <= at => (run.range.end, Some(*run)),
                    Some(run) => (run.range.start, None),
                    None => (found.end, None),
                };
                let range = at..end.min(found.end);
                at = range.end;
                let bytes = range.end - range.start;
                if bytes < limits.run {
                    continue;
                }
                let mut run = Run::after(run, range);
                if run.unprotected > 0 {
                    run.unprotected = if bytes <= left { run.unprotected } else { 0 };
                    left -= if run.unprotected > 0 { bytes } else { 0 };
                }
                next.push(run);
            }
        }
        next
    }

    /// Adds what is known of higher addresses.
    pub(crate) fn append(&mut self, other: Self) {
        other.0.into_iter().for_each(|run| self.push(run));
    }

    fn push(&mut self, run: Run) {
        let past = |run: &Run| (run.written, run.unprotected);
        let full = self.0.len() == RUNS;
        match self.0.last_mut() {
            Some(last) if last.range.end == run.range.start && past(last) == past(&run) => {
                last.range.end = run.range.end;
            }
            _ if full => {}
            _ => self.0.push(run),
        }
    }
}

impl Run {
    /// What `before` is after a look that found `range` written, or not protected.
    fn after(before: Option<&Self>, range: Range<u64>) -> Self {
        let Some(before) = before else { return Self { range, written: 1, unprotected: 0 } };
        if before.unprotected > 0 {
            return Self { range, written: before.written, unprotected: before.unprotected - 1 };
        }
        let written = (before.written + 1).min(LONGEST);
        Self { range, written, unprotected: written }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges
mod tests {
    use super::*;

    const ALL: Limits = Limits { run: 0, total: u64::MAX };

    fn unprotected(streaks: &Streaks) -> Vec<Range<u64>> {
        streaks.unprotected().collect()
    }

    #[test]
    fn what_is_written_each_time_is_unprotected_for_longer_and_longer() {
        let page = [0x1000..0x2000];
        let mut streaks = Streaks::default();
        let protected: Vec<usize> = (0..24)
            .filter(|_| {
                streaks = streaks.after(&page, ALL);
                unprotected(&streaks).is_empty()
            })
            .collect();
        assert_eq!(protected, [0, 3, 7, 12, 18]);
        let mut last = 0;
        for _ in 0..64 {
            streaks = streaks.after(&page, ALL);
            last = streaks.0[0].written;
        }
        assert_eq!(last, LONGEST);
    }

    #[test]
    fn what_is_not_written_once_begins_anew() {
        let page = [0x1000..0x2000];
        let mut streaks = Streaks::default().after(&page, ALL);
        streaks = streaks.after(&[], ALL);
        streaks = streaks.after(&page, ALL);
        assert!(unprotected(&streaks).is_empty());
        assert_eq!(unprotected(&streaks.after(&page, ALL)), page);
    }

    #[test]
    fn parts_have_a_past_of_their_own() {
        let streaks = Streaks::default().after(&[0x2000..0x4000, 0x6000..0x9000], ALL);
        let streaks = streaks.after(&[0x1000..0x3000, 0x5000..0xa000], ALL);
        assert_eq!(unprotected(&streaks), [0x2000..0x3000, 0x6000..0x9000]);
        let streaks = streaks.after(&[0x1000..0xa000], ALL);
        assert_eq!(
            unprotected(&streaks),
            [0x1000..0x2000, 0x2000..0x3000, 0x5000..0x6000, 0x6000..0x9000, 0x9000..0xa000]
        );
        assert_eq!(streaks.0.iter().map(|run| run.written).collect::<Vec<_>>(), [2, 2, 1, 2, 2, 2]);
    }

    #[test]
    fn no_more_than_the_limits() {
        let limits = Limits { run: 0x2000, total: 0x4000 };
        let found = [0x1000..0x2000, 0x3000..0x6000, 0x7000..0x9000, 0xa000..0xb000, 0xc000..0xd000];
        let streaks = Streaks::default().after(&found, limits).after(&found, limits);
        assert_eq!(unprotected(&streaks), [0x3000..0x6000]);
        let many: Vec<_> = (0..3000).map(|page| page << 13..(page << 13) + 0x1000).collect();
        assert_eq!(Streaks::default().after(&many, ALL).0.len(), RUNS);
    }

    #[test]
    fn mappings_come_one_after_the_other() {
        let mut streaks = Streaks::default().after(&[0x1000..0x2000], ALL);
        streaks.append(Streaks::default().after(&[0x2000..0x3000, 0x5000..0x6000], ALL));
        assert_eq!(streaks, Streaks::default().after(&[0x1000..0x3000, 0x5000..0x6000], ALL));
    }
}
