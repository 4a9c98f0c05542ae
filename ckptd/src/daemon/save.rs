//! Taking a checkpoint of a live job.
use super::Daemon;
use super::job::Job;
use crate::failure::{Failure, Outcome};
use crate::protocol::{Register, Save, Saved, Source};
use crate::target::{self, Holder};
use crate::worker::{CaptureOrder, CaptureReport};
use ckpt_capture::{OutsideConnections, UnixPeers};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{sleep, timeout};

/// How long the end of a killed job is waited for.
const END: Duration = Duration::from_secs(10);
/// How long a killed job may stay a zombie until its parent reaps it, before it counts as gone.
const ZOMBIE: Duration = Duration::from_secs(1);
/// Finished tickets that are kept for those who have not asked yet.
const KEPT_TICKETS: usize = 256;

/// A save that was asked for with `notify`.
pub(super) enum Ticket {
    /// Not over.
    Pending,
    /// Over.
    Done(Outcome<Saved>),
}

/// How a checkpoint is taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    /// Even where an incremental one is possible, a full one.
    pub(super) full: bool,
    /// The job ends with it.
    pub(super) stop: bool,
    /// What becomes of TCP connections to the outside.
    pub(super) tcp: OutsideConnections,
    /// What becomes of UNIX sockets that are connected to processes outside.
    pub(super) unix_peer: UnixPeers,
}

impl Daemon {
    /// Saves what a client asks for.
    pub(super) async fn save_for_client(self: &Rc<Self>, request: &Save, peer: i32) -> Outcome<Saved> {
        let asked = Instant::now();
        let (job, attached) = match &request.target {
            None => (self.job_of_peer(peer)?, false),
            Some(target) => self.find(target).await?,
        };
        let &Save { full, stop, tcp, unix_peer, .. } = request;
        let outcome = self.save(&job, How { full, stop, tcp, unix_peer }).await;
        if attached && outcome.is_err() {
            // It was attached for this checkpoint alone: leave it as it was.
            self.leave(&job);
        }
        let mut saved = outcome?;
        saved.duration_us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        if request.stop {
            self.wait_for_end(&job).await?;
        }
        Ok(saved)
    }

    /// The job that a program which asks for its own checkpoint belongs to.
    pub(super) fn job_of_peer(&self, peer: i32) -> Outcome<Rc<Job>> {
        self.job_of_root(peer).or_else(|| self.job_over(peer)).ok_or_else(|| {
            Failure::new(format!("{} belongs to no job", target::stat_name(peer)))
                .remedy("start it with `ckpt run` or with LD_PRELOAD=libckpt.so")
        })
    }

    /// A job by name or pid. A process that is no job yet becomes one; the second value says so.
    async fn find(self: &Rc<Self>, target: &str) -> Outcome<(Rc<Job>, bool)> {
        self.sweep();
        let named = self.jobs.borrow().iter().find(|job| job.name == target).map(Rc::clone);
        if let Some(job) = named {
            return Ok((job, false));
        }
        let Ok(pid) = target.parse::<i32>() else {
            return Err(Failure::new(format!("no job named {target} is running")).remedy(
                "`ckpt list` shows the jobs; to protect a program that runs, use `ckpt attach PID`",
            ));
        };
        if let Some(job) = self.job_of_root(pid) {
            return Ok((job, false));
        }
        if let Some(job) = self.job_over(pid) {
            return Err(Failure::new(format!("{} is part of job {}", target::stat_name(pid), job.name))
                .remedy(format!("save the whole job: ckpt save {}", job.name)));
        }
        let request = Register {
            pid: Some(pid),
            name: None,
            default_name: None,
            every: None,
            source: Source::Attach,
            tracked: Vec::new(),
            since: None,
            keeps: false,
            keep: None,
            keep_for: None,
            filling: false,
        };
        self.register(request, Vec::new(), pid).await?;
        let job = self.job_of_root(pid).ok_or_else(|| Failure::new(format!("pid {pid} has just ended")))?;
        Ok((job, true))
    }

    /// Takes one checkpoint; waits for its turn if one is under way.
    pub(super) async fn save(self: &Rc<Self>, job: &Rc<Job>, how: How) -> Outcome<Saved> {
        let mut turn = job.turn.lock().await;
        if !target::still_runs(job.target.pid, job.target.start_time) {
            return Err(Failure::new(format!("job {} (pid {}) has ended", job.name, job.target.pid))
                .remedy(format!("`ckpt restore {}` brings its newest checkpoint back", job.name)));
        }
        if !self.filled(job).await {
            turn.clear();
        }
        let mut order = CaptureOrder {
            store: self.store.clone(),
            memory: self.memory.unwrap_or_default(),
            effort: self.effort.of_save(|| self.processors.are_scarce()),
            job: job.name.clone(),
            pid: job.target.pid,
            full: how.full,
            last: job.last.borrow().clone(),
            tracked: turn.iter().map(|(pid, _)| *pid).collect(),
            hot_pages: job.hot_pages.take(),
            lends: false,
            stop: how.stop,
            tcp: how.tcp,
            unix_peer: how.unix_peer,
            keeper: job.keeper(),
            members: job.members.borrow().clone(),
        };
        let tracking = std::mem::take(&mut *turn);
        job.saving.set(true);
        let outcome = self.capture(&mut order, tracking).await;
        job.saving.set(false);
        match outcome {
            Ok((CaptureReport { saved, members, hot_pages, .. }, tracking)) => {
                *turn = tracking;
                *job.members.borrow_mut() = members;
                *job.hot_pages.borrow_mut() = hot_pages;
                *job.last.borrow_mut() = Some(saved.id.clone());
                *job.last_error.borrow_mut() = None;
                tracing::info!(
                    job = saved.job,
                    id = saved.id,
                    kind = saved.kind,
                    pause_us = saved.pause_us,
                    bytes = saved.bytes_written,
                    "saved"
                );
                self.persist();
                self.maintain(job, &saved);
                Ok(saved)
            }
            Err(failure) => {
                let before = job.last_error.replace(Some(failure.message.clone()));
                if before.as_ref() == Some(&failure.message) {
                    // A schedule that fails each time for the same reason says so once.
                    tracing::debug!(job = job.name, pid = job.target.pid, "not saved: {}", failure.message);
                } else {
                    tracing::error!(job = job.name, pid = job.target.pid, "not saved: {}", failure.message);
                }
                Err(failure)
            }
        }
    }

    /// Waits until the memory of a job is there that was restored to run before. Whether what is tracked of it can be relied upon.
    async fn filled(&self, job: &Rc<Job>) -> bool {
        let Some(report) = job.filling.take() else { return true };
        tracing::info!(job = job.name, "waiting until its memory is there");
        let word = async {
            let pipe = Receiver::from_owned_fd(report)?;
            loop {
                pipe.readable().await?;
                let mut word = [0];
                match pipe.try_read(&mut word) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    outcome => return outcome.map(|got| got == 1 && word[0] == ckpt_restore::FILLED),
                }
            }
        };
        let word: std::io::Result<bool> = word.await;
        word.unwrap_or(false)
    }

    /// After `--stop`: the job was killed while it was frozen; waits until its root is gone.
    async fn wait_for_end(&self, job: &Rc<Job>) -> Outcome<()> {
        let pid = job.target.pid;
        if timeout(END, job.ended()).await.is_err() {
            return Err(Failure::new(format!(
                "job {} is saved and was killed, but pid {pid} has not ended",
                job.name
            ))
            .remedy("it may hang in the kernel; `cat /proc/PID/stack` shows where"));
        }
        self.leave(job);
        let deadline = Instant::now() + ZOMBIE;
        while matches!(target::holder(pid), Holder::Dying(_)) && Instant::now() < deadline {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// A number for a save that starts now.
    pub(super) fn new_ticket(&self) -> u64 {
        let number = self.last_ticket.get() + 1;
        self.last_ticket.set(number);
        let mut tickets = self.tickets.borrow_mut();
        tickets.insert(number, Ticket::Pending);
        if tickets.len() > KEPT_TICKETS {
            let oldest = tickets
                .iter()
                .filter(|(_, ticket)| matches!(ticket, Ticket::Done(_)))
                .map(|(number, _)| *number)
                .min();
            if let Some(oldest) = oldest {
                tickets.remove(&oldest);
            }
        }
        number
    }
}
