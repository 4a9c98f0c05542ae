//! The trackers of a job's processes.
use crate::hot::HotPages;
use crate::tracker::Tracker;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// Runs of hot pages that are told of in all: they travel from one process of ours to another, some 20 bytes each.
const RUNS: usize = 1 << 16;

/// What outlives a capture: each process's userfaultfd. A capture that fails after its first scan has used up what the pages told; then
/// drop the whole of it, and the next capture takes all pages.
#[derive(Debug, Default)]
pub struct Tracking {
    trackers: BTreeMap<i32, Tracker>,
}

impl Tracking {
    /// From the userfaultfds of processes by pid, as [`Self::into_fds`] gave them or as the processes handed them over.
    #[must_use]
    pub fn from_fds(fds: Vec<(i32, OwnedFd)>) -> Self {
        let trackers = fds.into_iter().map(|(pid, fd)| (pid, Tracker::with_fd(pid, fd))).collect();
        Self { trackers }
    }

    /// What is known of pages from the captures before, by pid, as [`Self::hot_pages`] gave it: it spares page faults, and nothing relies on it.
    #[must_use]
    pub fn with_hot_pages(mut self, hot: BTreeMap<i32, HotPages>) -> Self {
        for (pid, hot) in hot {
            if let Some(tracker) = self.trackers.get_mut(&pid) {
                tracker.set_hot_pages(hot);
            }
        }
        self
    }

    /// What is known of pages, by pid: of so many processes that it takes [`RUNS`] runs of them to tell.
    #[must_use]
    pub fn hot_pages(&self) -> BTreeMap<i32, HotPages> {
        let mut left = RUNS;
        let all = self.trackers.iter().map(|(pid, tracker)| (*pid, tracker.hot_pages()));
        let fits = |(_, hot): &(i32, &HotPages)| {
            let runs = hot.runs();
            let fits = runs <= left;
            left -= if fits { runs } else { left };
            fits
        };
        all.filter(|(_, hot)| hot.runs() > 0).take_while(fits).map(|(pid, hot)| (pid, hot.clone())).collect()
    }

    /// The userfaultfds by pid, to be handed to another process of ours.
    #[must_use]
    pub fn into_fds(self) -> Vec<(i32, OwnedFd)> {
        self.trackers.into_iter().filter_map(|(pid, tracker)| Some((pid, tracker.into_fd()?))).collect()
    }

    /// The tracker of `pid`, a new one if there is none.
    pub fn tracker(&mut self, pid: i32) -> &mut Tracker {
        self.trackers.entry(pid).or_insert_with(|| Tracker::new(pid))
    }

    /// Takes a tracker in, in place of any of the same pid.
    pub fn insert(&mut self, tracker: Tracker) {
        self.trackers.insert(tracker.pid(), tracker);
    }

    /// Forgets all processes but these.
    pub fn retain(&mut self, pids: &[i32]) {
        self.trackers.retain(|pid, _| pids.contains(pid));
    }

    /// Whether no process is tracked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trackers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_hot_pages_is_bounded() {
        let pages: Vec<_> = (0..4096).map(|page| page << 13..(page << 13) + 0x1000).collect();
        let mut tracking = Tracking::default();
        tracking.tracker(1);
        for pid in 2..200 {
            // Nothing of it is unprotected: that process need not be there.
            tracking
                .tracker(pid)
                .end(Some(&pages.iter().map(|page| page.start << 4..page.end << 4).collect::<Vec<_>>()));
        }
        let told = tracking.hot_pages();
        assert!(!told.contains_key(&1) && told.contains_key(&2) && !told.contains_key(&199));
        assert!(told.values().map(HotPages::runs).sum::<usize>() <= RUNS);
    }
}
