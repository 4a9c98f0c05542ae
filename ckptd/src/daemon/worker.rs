//! Worker processes: one for each capture and each detached restore.
use super::Daemon;
use super::job::Tracking;
use crate::failure::{Failure, Outcome};
use crate::protocol::{self, Answer, Register, Source, frame};
use crate::worker::{CaptureOrder, CaptureReport, CleanOrder, CleanReport, RestoreOrder, RestoreReport};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::wait::WaitStatus;
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// The order that a worker does not end with.
pub(super) const RESTORE: &str = "__restore";

/// A worker process that has no order yet.
pub(super) struct Worker {
    socket: UnixStream,
    pid: i32,
    ended: oneshot::Receiver<WaitStatus>,
}

impl Worker {
    /// Whether it lives, and is in the control groups in which one would be that is started now: a job may come to be there.
    pub(super) fn is_as_new(&self) -> bool {
        // It says nothing before it has an order; its end closes the socket.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let lives = recv(self.socket.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN);
        let groups = |process: &str| std::fs::read(format!("/proc/{process}/cgroup")).ok();
        lives && groups("self").is_some_and(|own| groups(&self.pid.to_string()) == Some(own))
    }
}

/// Why a worker did not do as it was told.
pub(super) enum Unmet {
    /// It says why.
    Failed(Failure),
    /// It died in the middle.
    Died(Failure),
}

impl From<Unmet> for Failure {
    fn from(unmet: Unmet) -> Self {
        match unmet {
            Unmet::Failed(failure) | Unmet::Died(failure) => failure,
        }
    }
}

impl Daemon {
    /// Has a worker take the checkpoint. `tracking` stays open here until the worker has succeeded; on every failure
    /// it is closed, which leaves the job untracked and clean.
    pub(super) async fn capture(
        &self,
        order: &mut CaptureOrder,
        tracking: Tracking,
    ) -> Outcome<(CaptureReport, Tracking)> {
        let mut handed: Vec<OwnedFd> = tracking.into_iter().map(|(_, fd)| fd).collect();
        let lent = self.lender.lend().map(|(memory, copy)| {
            handed.push(copy);
            memory
        });
        order.lends = lent.is_some();
        let outcome = self.order::<CaptureReport>("__capture", order, handed).await;
        // A worker that has died may have left a child that uses it still.
        if !matches!(outcome, Err(Unmet::Died(_))) {
            lent.into_iter().for_each(|memory| self.lender.take_back(memory));
        }
        match outcome {
            Ok((report, fds)) => {
                let tracking = pair(&report.tracked, fds)?;
                Ok((report, tracking))
            }
            Err(Unmet::Failed(failure)) => Err(failure),
            Err(Unmet::Died(failure)) => {
                // The kernel let the job go when its tracer died; a few pages of ours may still be in it.
                let members = order.members.clone();
                let order = CleanOrder { pid: order.pid, keeper: order.keeper, members };
                if let Err(unmet) = self.order::<CleanReport>("__clean", &order, Vec::new()).await {
                    tracing::error!(
                        pid = order.pid,
                        "cannot clean up after a dead worker: {}",
                        Failure::from(unmet)
                    );
                }
                Err(failure)
            }
        }
    }

    /// Has a worker bring a checkpoint back, which then stays as the job's keeper.
    pub(super) async fn restore(self: &Rc<Self>, order: RestoreOrder) -> Outcome<Answer> {
        let id = order.id.clone();
        let outcome = self.order::<RestoreReport>(RESTORE, &order, Vec::new()).await;
        self.make_spare_soon();
        let (report, fds) = outcome?;
        let pid = report.pid;
        let register = Register {
            pid: Some(pid),
            name: Some(report.job.clone()),
            default_name: None,
            every: None,
            source: Source::Restore,
            tracked: report.tracked,
            since: Some(id),
            keeps: true,
            keep: None,
            keep_for: None,
            filling: report.filling,
        };
        match self.register(register, fds, report.keeper).await {
            Ok((Answer::Registered { job } | Answer::Covered { job }, _)) => {
                Ok(Answer::Restored { job, pid })
            }
            Ok(_) => Ok(Answer::Restored { job: report.job, pid }),
            Err(failure) => {
                // It may have had little left to do; that it was restored is what was asked for.
                tracing::warn!(job = report.job, pid, "restored, but not protected: {failure}");
                Ok(Answer::Restored { job: report.job, pid })
            }
        }
    }

    /// Has a worker carry out an order. It gets what is handed to it, which nobody has here then.
    pub(super) async fn order<R: DeserializeOwned>(
        &self,
        role: &str,
        order: &impl Serialize,
        handed: Vec<OwnedFd>,
    ) -> Result<(R, Vec<OwnedFd>), Unmet> {
        let spare = if role == RESTORE { self.spare.take() } else { None };
        let Worker { socket, ended, .. } = spare.map_or_else(|| self.spawn(role), Ok).map_err(|error| {
            Unmet::Failed(Failure::new(format!("cannot start a worker process: {error}")))
        })?;
        let fds: Vec<_> = handed.iter().map(AsFd::as_fd).collect();
        let sent = frame::send_async(&socket, &protocol::encode_request(order), &fds).await;
        // The worker's are the only ones now: it can give tracking up by closing them.
        drop(fds);
        drop(handed);
        let received = match sent {
            Ok(()) => frame::receive_async(&socket).await,
            Err(error) => Err(error),
        };
        drop(socket);
        match received {
            Ok(Some(frame)) => {
                let reply = protocol::decode_reply(&frame.payload);
                if reply.is_err() || role != RESTORE {
                    let _ = ended.await;
                }
                reply.map(|report| (report, frame.fds)).map_err(Unmet::Failed)
            }
            Ok(None) | Err(_) => {
                let status = ended.await.ok();
                let how = match status {
                    Some(WaitStatus::Exited(_, code)) => format!("ended with status {code}"),
                    Some(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
                    _ => "ended".into(),
                };
                Err(Unmet::Died(Failure::new(format!("the worker process {how} before it was done")).remedy(
                    format!("the daemon's log has what it said last: {}", self.endpoint.log().display()),
                )))
            }
        }
    }

    /// Starts a worker with one end of a socket pair as its standard input.
    pub(super) fn spawn(&self, role: &str) -> io::Result<Worker> {
        let (ours, theirs) = StdStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("ckpt-worker")
            .arg(role)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let ended = self.reaper.ended(pid);
        ours.set_nonblocking(true)?;
        Ok(Worker { socket: UnixStream::from_std(ours)?, pid, ended })
    }
}

fn pair(pids: &[i32], fds: Vec<OwnedFd>) -> Outcome<Tracking> {
    if pids.len() != fds.len() {
        return Err(Failure::new("the worker's report lacks descriptors that it announces"));
    }
    Ok(pids.iter().copied().zip(fds).collect())
}
