//! How a process becomes a job.
use super::Daemon;
use super::job::{Job, Tracking};
use crate::failure::{Failure, Outcome};
use crate::keep::{self, Keep};
use crate::protocol::{Answer, Register, Source};
use crate::{every, job_name, target};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::sync::OwnedMutexGuard;

/// A registration: the answer, and the job's turn, which is held until the client has let go of its connection, so
/// that no checkpoint catches the job with that connection or before its first instruction.
pub(super) type Registered = (Answer, Option<OwnedMutexGuard<Tracking>>);

impl Daemon {
    /// Puts the process tree under protection that `request`, sent by `peer`, names.
    pub(super) async fn register(
        self: &Rc<Self>,
        request: Register,
        mut fds: Vec<OwnedFd>,
        peer: i32,
    ) -> Outcome<Registered> {
        let filling = if request.filling { fds.pop() } else { None };
        if request.tracked.len() != fds.len() {
            return Err(Failure::new("the registration lacks descriptors that it announces"));
        }
        let every = request.every.as_deref().map(every::parse).transpose()?;
        let keep = keep::parse(request.keep.as_deref(), request.keep_for.as_deref())?;
        let target = target::inspect(request.pid.unwrap_or(peer))?;
        self.sweep();
        let tracking: Tracking =
            request.tracked.iter().map(|pid| if *pid == 0 { peer } else { *pid }).zip(fds).collect();
        if let Some(job) = self.job_of_root(target.pid) {
            return self.register_again(&job, &request, (every, keep), tracking).await;
        }
        if let Some(job) = self.job_over(target.pid) {
            return Ok((Answer::Covered { job: job.name.clone() }, None));
        }
        if target.pid == 1 || u32::try_from(target.pid) == Ok(std::process::id()) {
            return Err(Failure::new(format!("{} cannot be a job", target::stat_name(target.pid))));
        }
        let name = self.name_for(&request, &target.comm)?;
        let pid = target.pid;
        let job = Job::new(name, target, request.source)
            .map_err(|error| Failure::new(format!("pid {pid} cannot be watched: {error}")))?;
        job.every.set(every);
        job.keep.set(keep);
        *job.last.borrow_mut() = request.since;
        *job.filling.borrow_mut() = filling;
        *job.keeper.borrow_mut() = target::running(peer).filter(|_| request.keeps);
        let job = Rc::new(job);
        let mut turn = self.turn(&job).await;
        *turn = tracking;
        self.enter(&job);
        Ok((Answer::Registered { job: job.name.clone() }, Some(turn)))
    }

    /// The job's root asks again: after it executed another program, or because a user attaches it once more.
    async fn register_again(
        &self,
        job: &Rc<Job>,
        request: &Register,
        (every, keep): (Option<std::time::Duration>, Keep),
        tracking: Tracking,
    ) -> Outcome<Registered> {
        if request.source == Source::Preload {
            let mut turn = self.turn(job).await;
            // A new program has a new address space: what was tracked is gone with the old one.
            *turn = tracking;
            return Ok((Answer::Covered { job: job.name.clone() }, Some(turn)));
        }
        if let Some(name) = request.name.as_ref().filter(|name| **name != job.name) {
            return Err(Failure::new(format!(
                "pid {} is job {} already, not {name}",
                job.target.pid, job.name
            ))
            .remedy(format!("use the name {}", job.name)));
        }
        if every.is_some() {
            job.every.set(every);
            job.changed.notify_one();
        }
        if keep.is_some() {
            job.keep.set(keep);
        }
        if every.is_some() || keep.is_some() {
            self.persist();
        }
        Ok((Answer::Registered { job: job.name.clone() }, None))
    }

    async fn turn(&self, job: &Rc<Job>) -> OwnedMutexGuard<Tracking> {
        std::sync::Arc::clone(&job.turn).lock_owned().await
    }

    fn name_for(&self, request: &Register, comm: &str) -> Outcome<String> {
        let jobs = self.jobs.borrow();
        let taken = |name: &str| jobs.iter().any(|job| job.name == name);
        match &request.name {
            Some(name) => {
                job_name::check(name)?;
                // Where nobody is there to choose another, a number makes the name unique.
                let may_differ = matches!(request.source, Source::Preload | Source::Restore);
                match jobs.iter().find(|job| job.name == *name) {
                    Some(job) if !may_differ => Err(Failure::usage(format!(
                        "a job named {name} runs already: {}",
                        target::stat_name(job.target.pid)
                    ))
                    .remedy("choose another name with --name")),
                    _ => Ok(job_name::unique(name, taken)),
                }
            }
            None => {
                let from = request.default_name.as_deref().unwrap_or(comm);
                Ok(job_name::unique(&job_name::derived(from), taken))
            }
        }
    }

    /// Drops jobs that have ended, ahead of the event that says so: their names and pids may be wanted now.
    pub(super) fn sweep(&self) {
        let ended = |job: &&Rc<Job>| !target::still_runs(job.target.pid, job.target.start_time);
        let ended: Vec<_> = self.jobs.borrow().iter().filter(ended).map(Rc::clone).collect();
        ended.iter().for_each(|job| self.leave(job));
    }

    /// The live job whose root process this is.
    pub(super) fn job_of_root(&self, pid: i32) -> Option<Rc<Job>> {
        self.jobs.borrow().iter().find(|job| job.target.pid == pid).map(Rc::clone)
    }

    /// The live job that holds this process, though not as its root.
    pub(super) fn job_over(&self, pid: i32) -> Option<Rc<Job>> {
        let over = |ancestor: i32| self.job_of_root(ancestor).or_else(|| self.job_kept_by(ancestor));
        target::ancestors(pid).into_iter().find_map(over)
    }

    fn job_kept_by(&self, pid: i32) -> Option<Rc<Job>> {
        self.jobs.borrow().iter().find(|job| job.keeper() == Some(pid)).map(Rc::clone)
    }
}
