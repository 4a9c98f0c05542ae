//! One live job, and the task that watches and saves it.
use super::Daemon;
use super::maintain::Upkeep;
use super::save::How;
use crate::keep::Keep;
use crate::protocol::{LiveJob, Source};
use crate::target::{self, Target};
use crate::worker::HotPages;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep_until};

/// Userfaultfds, each with the pid whose memory it tracks. Closing one ends the tracking and leaves no trace.
pub(super) type Tracking = Vec<(i32, OwnedFd)>;

/// A process tree under protection.
pub(super) struct Job {
    /// Unique among the live jobs.
    pub(super) name: String,
    /// The root process.
    pub(super) target: Target,
    /// How it came under protection.
    pub(super) source: Source,
    /// Readable once the root process has ended.
    pidfd: AsyncFd<OwnedFd>,
    /// Tickets up to this one were given out before it was entered here.
    pub(super) first_ticket: Cell<u64>,
    /// Time between checkpoints.
    pub(super) every: Cell<Option<Duration>>,
    /// Which of its checkpoints are kept.
    pub(super) keep: Cell<Keep>,
    /// What is known of its chain.
    pub(super) upkeep: Upkeep,
    /// `every` has changed.
    pub(super) changed: Notify,
    /// A checkpoint is under way.
    pub(super) saving: Cell<bool>,
    /// The last checkpoint of this run of the job: taken of it, or what it was restored from.
    pub(super) last: RefCell<Option<String>>,
    /// The parent of the root process and of all orphans of the job, and of nothing else, if there is one.
    pub(super) keeper: RefCell<Option<Target>>,
    /// The processes of the job at the last checkpoint, and when they were started.
    pub(super) members: RefCell<BTreeMap<i32, u64>>,
    /// What is known of their pages.
    pub(super) hot_pages: RefCell<HotPages>,
    /// Tells when its memory is there, if a restore is still filling it.
    pub(super) filling: RefCell<Option<OwnedFd>>,
    /// Why the last attempt failed.
    pub(super) last_error: RefCell<Option<String>>,
    /// Held by whoever saves the job, so that checkpoints come one after the other.
    pub(super) turn: Arc<Mutex<Tracking>>,
}

impl Job {
    /// A job whose root is `target`.
    ///
    /// # Errors
    /// When the process has just ended.
    pub(super) fn new(name: String, target: Target, source: Source) -> io::Result<Self> {
        let pidfd = ckpt_sys::pidfd::open(target.pid).map_err(io::Error::other)?;
        // SAFETY: the descriptor is owned by the AsyncFd, and stays what it is until that is dropped.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        Ok(Self {
            name,
            target,
            source,
            pidfd,
            first_ticket: Cell::new(0),
            every: Cell::new(None),
            keep: Cell::default(),
            upkeep: Upkeep::default(),
            changed: Notify::new(),
            saving: Cell::new(false),
            last: RefCell::default(),
            keeper: RefCell::default(),
            members: RefCell::default(),
            hot_pages: RefCell::default(),
            filling: RefCell::default(),
            last_error: RefCell::default(),
            turn: Arc::default(),
        })
    }

    /// Waits until the root process has ended; it may still be a zombie.
    pub(super) async fn ended(&self) {
        // An error would mean that the descriptor is none: then there is nothing left to watch.
        let _ = self.pidfd.readable().await;
    }

    /// The pid of its keeper, if that still runs.
    pub(super) fn keeper(&self) -> Option<i32> {
        let keeper = self.keeper.borrow();
        let keeper = keeper.as_ref().filter(|keeper| target::still_runs(keeper.pid, keeper.start_time));
        keeper.map(|keeper| keeper.pid)
    }

    /// As `ckpt list` shows it.
    pub(super) fn live(&self) -> LiveJob {
        LiveJob {
            job: self.name.clone(),
            pid: self.target.pid,
            source: self.source,
            every_ms: self.every.get().map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
            saving: self.saving.get(),
            last: self.last.borrow().clone(),
            last_error: self.last_error.borrow().clone(),
        }
    }
}

impl Daemon {
    /// Adds a job to the registry, and watches it until it ends.
    pub(super) fn enter(self: &Rc<Self>, job: &Rc<Job>) {
        tracing::info!(job = job.name, pid = job.target.pid, comm = job.target.comm, "protected");
        self.processors.watch();
        job.first_ticket.set(self.last_ticket.get());
        self.jobs.borrow_mut().push(Rc::clone(job));
        self.persist();
        let (daemon, job) = (Rc::clone(self), Rc::clone(job));
        tokio::task::spawn_local(async move {
            daemon.watch(&job).await;
            daemon.leave(&job);
        });
    }

    /// Drops a job from the registry; its tracking ends with it.
    pub(super) fn leave(&self, job: &Rc<Job>) {
        let mut jobs = self.jobs.borrow_mut();
        let before = jobs.len();
        jobs.retain(|other| !Rc::ptr_eq(other, job));
        let removed = jobs.len() < before;
        drop(jobs);
        if removed {
            // For its watcher.
            job.changed.notify_one();
            tracing::info!(job = job.name, pid = job.target.pid, "no longer protected");
            self.persist();
        }
    }

    /// Saves the job when it is time, until it ends or leaves.
    async fn watch(self: &Rc<Self>, job: &Rc<Job>) {
        let mut last = Instant::now();
        loop {
            let due = job.every.get().map(|every| last + every);
            tokio::select! {
                () = job.ended() => return,
                () = job.changed.notified() => {}
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    let _busy = self.work();
                    // The error is in the log and in the job already; the job goes on, and so does its schedule.
                    let _ = self.save(job, How::default()).await;
                    last = Instant::now();
                }
            }
            if !self.jobs.borrow().iter().any(|other| Rc::ptr_eq(other, job)) {
                return;
            }
        }
    }
}
