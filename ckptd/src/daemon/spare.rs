//! A worker that waits for an order to restore, so that a job that has ended does not wait for a process to start. It is as any other of the daemon's workers: it has
//! nothing of a job's, and ends with the socket that its order would come by.
use super::Daemon;
use super::worker::{RESTORE, Worker};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// How long after a restore the next one is made: the job has begun to run, and needs the processors.
const AFTER: Duration = Duration::from_millis(200);

/// At most one.
#[derive(Default)]
pub(super) struct Spare {
    worker: RefCell<Option<Worker>>,
    /// It is to be made soon.
    awaited: Cell<bool>,
}

impl Spare {
    /// Takes it, if it is there and would do as one that is started now.
    pub(super) fn take(&self) -> Option<Worker> {
        self.worker.take().filter(Worker::is_as_new)
    }

    /// Has it end.
    pub(super) fn dismiss(&self) {
        drop(self.worker.take());
    }
}

impl Daemon {
    /// Makes it, unless there is one.
    pub(super) fn make_spare(&self) {
        if self.spare.worker.borrow().as_ref().is_some_and(Worker::is_as_new) {
            return;
        }
        match self.spawn(RESTORE) {
            Ok(worker) => drop(self.spare.worker.replace(Some(worker))),
            Err(error) => tracing::debug!("no worker stands by: {error}"),
        }
    }

    /// Makes it in a while.
    pub(super) fn make_spare_soon(self: &Rc<Self>) {
        if self.spare.awaited.replace(true) {
            return;
        }
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            sleep(AFTER).await;
            daemon.spare.awaited.set(false);
            daemon.make_spare();
        });
    }
}
