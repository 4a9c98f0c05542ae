//! The processes that do the daemon's tracing: each is this executable again, with an order on its standard input.
mod capture;
mod restore;

use crate::failure::{Failure, Outcome};
use crate::protocol::{self, PidNamespace, Saved, frame};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{dup2_stdin, setsid};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Take a checkpoint. The frame's descriptors are the userfaultfds of `tracked`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CaptureOrder {
    /// The store.
    pub(crate) store: PathBuf,
    /// The job's name.
    pub(crate) job: String,
    /// Its root process.
    pub(crate) pid: i32,
    /// Take a full checkpoint.
    pub(crate) full: bool,
    /// The checkpoint since which the userfaultfds have tracked writes; if it is still there it becomes the parent.
    pub(crate) last: Option<String>,
    /// The processes that the userfaultfds belong to.
    pub(crate) tracked: Vec<i32>,
    /// Kill the job once it is saved.
    pub(crate) stop: bool,
    /// What becomes of its TCP connections to the outside.
    pub(crate) tcp: ckpt_capture::OutsideConnections,
    /// What becomes of its UNIX sockets that are connected to processes outside.
    pub(crate) unix_peer: ckpt_capture::UnixPeers,
}

/// What became of a [`CaptureOrder`]. The frame's descriptors are the userfaultfds of `tracked`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CaptureReport {
    /// The checkpoint.
    pub(crate) saved: Saved,
    /// The processes that are tracked from now on.
    pub(crate) tracked: Vec<i32>,
}

/// Bring a checkpoint back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RestoreOrder {
    /// The store.
    pub(crate) store: PathBuf,
    /// The checkpoint.
    pub(crate) id: String,
    /// What becomes of its TCP connections to the outside.
    pub(crate) tcp: ckpt_restore::OutsideConnections,
    /// What becomes of it when files are not what they were.
    pub(crate) files: ckpt_restore::ChangedFiles,
    /// Which pids it gets.
    pub(crate) pids: PidNamespace,
}

/// Take away what a capture left in a process whose worker was killed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CleanOrder {
    /// The process.
    pub(crate) pid: i32,
}

/// A [`CleanOrder`] was carried out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CleanReport {}

/// What became of a [`RestoreOrder`]. The frame's descriptors are the userfaultfds of `tracked`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RestoreReport {
    /// The job's name.
    pub(crate) job: String,
    /// Its root process.
    pub(crate) pid: i32,
    /// The processes that are tracked from now on.
    pub(crate) tracked: Vec<i32>,
}

/// A report and the descriptors that go with it.
type Report<T> = (T, Vec<OwnedFd>);

/// `ckpt __capture`: takes one checkpoint.
pub(crate) fn capture() -> Outcome<()> {
    obey(capture::capture)
}

/// `ckpt __clean`: cleans up after a worker that was killed.
pub(crate) fn clean() -> Outcome<()> {
    obey(|order: CleanOrder, _| {
        ckpt_capture::clean(order.pid)?;
        Ok((CleanReport {}, Vec::new()))
    })
}

/// `ckpt __restore`: brings one checkpoint back, and ends; the program becomes the daemon's child.
pub(crate) fn restore() -> Outcome<()> {
    obey(restore::restore)
}

fn obey<O, R>(work: fn(O, Vec<OwnedFd>) -> Outcome<Report<R>>) -> Outcome<()>
where
    O: serde::de::DeserializeOwned,
    R: Serialize,
{
    let stray = |what: &str| Failure::usage(format!("this command is the daemon's own: {what}"));
    let socket = take_stdin().map_err(|error| stray(&error.to_string()))?;
    // Nothing meant for the daemon or its terminal may end the tracer while a program is in its hands. Whoever kills
    // the daemon does not kill this: the work is finished, or undone, whether or not somebody waits for the report.
    let _ = setsid();
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: no handler is installed, the signal is merely ignored.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    let frame = frame::receive(&socket)
        .map_err(|error| stray(&error.to_string()))?
        .ok_or_else(|| stray("no order came"))?;
    let outcome = protocol::decode_request(&frame.payload).and_then(|order| work(order, frame.fds));
    let (outcome, fds) = match outcome {
        Ok((report, fds)) => (Ok(report), fds),
        Err(failure) => (Err(failure), Vec::new()),
    };
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if let Err(error) = frame::send(&socket, &protocol::encode_reply(outcome), &borrowed) {
        tracing::warn!("the daemon is gone: {error}");
    }
    Ok(())
}

/// Standard input as a socket; `/dev/null` takes its place.
fn take_stdin() -> std::io::Result<UnixStream> {
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
