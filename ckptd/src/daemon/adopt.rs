//! What a daemon leaves to the next one: which processes are jobs.
use super::Daemon;
use super::job::Job;
use crate::roster::{Entry, Roster};
use crate::target;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number that tickets of an earlier daemon do not reach: microseconds of the clock.
pub(super) fn first_ticket() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0)
}

impl Daemon {
    /// Writes the live jobs down. Failing that, only a crash of the daemon would show it: it is logged.
    pub(super) fn persist(&self) {
        let entry = |job: &Rc<Job>| Entry {
            name: job.name.clone(),
            pid: job.target.pid,
            start_time: job.target.start_time,
            source: job.source,
            every_ms: job.live().every_ms,
            keep: job.keep.get(),
            last: job.last.borrow().clone(),
            keeper: job.keeper.borrow().as_ref().map(|keeper| (keeper.pid, keeper.start_time)),
            members: job.members.borrow().clone(),
        };
        let roster = Roster::of(self.jobs.borrow().iter().map(entry).collect());
        if let Err(error) = roster.write(&self.endpoint) {
            tracing::error!("cannot write {}: {error}", self.endpoint.jobs().display());
        }
    }

    /// Takes over the jobs of the daemon before this one that still run. They are untracked: their next checkpoint
    /// looks at every page.
    pub(super) fn adopt(self: &Rc<Self>) {
        for entry in Roster::read(&self.endpoint).survivors() {
            // Not inspected as closely as a new one: a tracer, for example, may be gone by the next checkpoint.
            let Some(target) = target::running(entry.pid) else { continue };
            match Job::new(entry.name.clone(), target, entry.source) {
                Ok(job) => {
                    job.every.set(entry.every_ms.map(Duration::from_millis));
                    job.keep.set(entry.keep);
                    *job.last.borrow_mut() = entry.last;
                    let keeper = entry.keeper.and_then(|(pid, start_time)| {
                        target::running(pid).filter(|target| target.start_time == start_time)
                    });
                    *job.keeper.borrow_mut() = keeper;
                    *job.members.borrow_mut() = entry.members;
                    self.enter(&Rc::new(job));
                }
                Err(error) => tracing::warn!("job {} cannot be taken over: {error}", entry.name),
            }
        }
    }
}
