//! What is done for a job after a checkpoint, while it runs on: old checkpoints go, and long chains are merged. A worker does it, which anybody may
//! kill at any moment: the store then is as it was before, or as it is after.
use super::Daemon;
use super::job::Job;
use super::worker::Unmet;
use crate::protocol::Saved;
use crate::worker::{MaintainOrder, MaintainReport};
use ckpt_image::ChainLimits;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tokio::time::sleep;

/// The time between two rounds is so many times that which the first one took: schedules may be shorter than a merge.
const REST: u32 = 4;

/// What is known of the chain of a job's newest checkpoint.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Its checkpoints; None: not known.
    length: Cell<Option<u64>>,
    /// Bytes that were written since somebody looked.
    bytes: Cell<u64>,
    /// Somebody looks after it.
    busy: Cell<bool>,
    /// Something came since they began.
    again: Cell<bool>,
}

impl Upkeep {
    fn add(&self, saved: &Saved) {
        let length = if saved.kind == "full" { Some(1) } else { self.length.get().map(|n| n + 1) };
        self.length.set(length);
        self.bytes.set(self.bytes.get().saturating_add(saved.bytes_written));
    }

    /// Whether a worker should look.
    fn is_due(&self) -> bool {
        let limits = ChainLimits::default();
        let length = self.length.get().and_then(|n| usize::try_from(n).ok());
        length.is_none_or(|n| n > limits.length) || self.bytes.get() > limits.bytes
    }
}

impl Daemon {
    /// Does in the background what is to be done after a checkpoint.
    pub(super) fn maintain(self: &Rc<Self>, job: &Rc<Job>, saved: &Saved) {
        job.upkeep.add(saved);
        if !job.keep.get().is_some() && !job.upkeep.is_due() {
            return;
        }
        job.upkeep.again.set(true);
        if job.upkeep.busy.replace(true) {
            return;
        }
        let (daemon, job) = (Rc::clone(self), Rc::clone(job));
        tokio::task::spawn_local(async move {
            while job.upkeep.again.replace(false) {
                let begin = Instant::now();
                daemon.maintain_once(&job).await;
                sleep(begin.elapsed().saturating_mul(REST)).await;
            }
            job.upkeep.busy.set(false);
        });
    }

    async fn maintain_once(&self, job: &Job) {
        job.upkeep.bytes.set(0);
        let order = MaintainOrder { store: self.store.clone(), job: job.name.clone(), keep: job.keep.get() };
        match self.order::<MaintainReport>("__maintain", &order, Vec::new()).await {
            Ok((report, _)) => {
                job.upkeep.length.set(Some(report.length));
                if report.merged.is_some() || report.removed > 0 {
                    let merged = report.merged.unwrap_or_default();
                    tracing::info!(job = job.name, merged, removed = report.removed, "maintained");
                }
            }
            // A later one will do it: nothing is lost but space.
            Err(Unmet::Failed(failure) | Unmet::Died(failure)) => {
                tracing::warn!(job = job.name, "old checkpoints stay for now: {failure}");
            }
        }
    }
}
