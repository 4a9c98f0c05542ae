//! The processes that do the daemon's tracing: each is this executable again, with an order on its standard input.
mod capture;
pub(crate) mod keeper;
mod maintain;
mod restore;

use crate::failure::{Failure, Outcome};
use crate::keep::Keep;
use crate::memory::Memory;
use crate::protocol::{self, PidNamespace, Saved, frame};
use ckpt_image::Effort;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{dup2_stdin, setsid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Bytes of memory, about, that it takes to read the page index of a job of some GiB.
const HEAP: usize = 6 << 20;

/// What is known of the pages of processes from the checkpoints before.
pub(crate) type HotPages = BTreeMap<i32, ckpt_dirty::HotPages>;

/// Take a checkpoint. The frame's descriptors are the userfaultfds of `tracked`, and what is lent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CaptureOrder {
    /// The store.
    pub(crate) store: PathBuf,
    /// What it may take of memory.
    pub(crate) memory: Memory,
    /// What is spent on making it small.
    pub(crate) effort: Effort,
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
    /// What is known of their pages, by the pids that the job's own PID namespace has.
    pub(crate) hot_pages: HotPages,
    /// The last descriptor is memory for copies of pages.
    pub(crate) lends: bool,
    /// Kill the job once it is saved.
    pub(crate) stop: bool,
    /// What becomes of its TCP connections to the outside.
    pub(crate) tcp: ckpt_capture::OutsideConnections,
    /// What becomes of its UNIX sockets that are connected to processes outside.
    pub(crate) unix_peer: ckpt_capture::UnixPeers,
    /// Parent of its orphans and its root, and of nothing else.
    pub(crate) keeper: Option<i32>,
    /// Its processes at the last checkpoint, and when they were started.
    pub(crate) members: BTreeMap<i32, u64>,
}

impl CaptureOrder {
    fn orphans(&self) -> ckpt_capture::Orphans {
        ckpt_capture::Orphans { keeper: self.keeper, known: self.members.clone() }
    }
}

/// What became of a [`CaptureOrder`]. The frame's descriptors are the userfaultfds of `tracked`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CaptureReport {
    /// The checkpoint.
    pub(crate) saved: Saved,
    /// The processes that are tracked from now on.
    pub(crate) tracked: Vec<i32>,
    /// What is known of their pages from now on.
    pub(crate) hot_pages: HotPages,
    /// The processes of the job, as its own PID namespace has them, and when they were started.
    pub(crate) members: BTreeMap<i32, u64>,
}

/// Remove old checkpoints of a job, and merge its chain if it has become long.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MaintainOrder {
    /// The store.
    pub(crate) store: PathBuf,
    /// The job's name.
    pub(crate) job: String,
    /// Which are kept.
    pub(crate) keep: Keep,
}

/// What became of a [`MaintainOrder`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MaintainReport {
    /// The checkpoint that is a full one now.
    pub(crate) merged: Option<String>,
    /// How many were removed.
    pub(crate) removed: usize,
    /// Checkpoints in the chain of the newest.
    pub(crate) length: u64,
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
    /// Where its control groups go; None: it is in the daemon's.
    pub(crate) cgroups: Option<Vec<ckpt_restore::CgroupRoot>>,
    /// It runs before its memory is there.
    pub(crate) lazy: bool,
}

/// Take away what a capture left in a process whose worker was killed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CleanOrder {
    /// The process.
    pub(crate) pid: i32,
    /// As in [`CaptureOrder`].
    pub(crate) keeper: Option<i32>,
    /// As in [`CaptureOrder`].
    pub(crate) members: BTreeMap<i32, u64>,
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
    /// The process that stays as its keeper.
    pub(crate) keeper: i32,
    /// The processes that are tracked from now on.
    pub(crate) tracked: Vec<i32>,
    /// The last descriptor tells when its memory is there.
    pub(crate) filling: bool,
}

/// A report and the descriptors that go with it.
type Report<T> = (T, Vec<OwnedFd>);

/// `ckpt __capture`: takes one checkpoint.
pub(crate) fn capture() -> Outcome<()> {
    obey(capture::capture).map(drop)
}

/// `ckpt __clean`: cleans up after a worker that was killed.
pub(crate) fn clean() -> Outcome<()> {
    obey(|order: CleanOrder, _| {
        let orphans = ckpt_capture::Orphans { keeper: order.keeper, known: order.members };
        ckpt_capture::clean(order.pid, &orphans)?;
        Ok((CleanReport {}, Vec::new()))
    })
    .map(drop)
}

/// `ckpt __maintain`: removes and merges checkpoints.
pub(crate) fn maintain() -> Outcome<()> {
    obey(maintain::maintain).map(drop)
}

/// `ckpt __restore`: brings one checkpoint back, and stays as the job's keeper.
pub(crate) fn restore() -> Outcome<()> {
    // The order may come later than this process is there.
    ckpt_sys::heap::populate(HEAP);
    if obey(restore::restore)? {
        return Err(keeper::become_keeper());
    }
    Ok(())
}

/// Whether it was done; if not, the daemon was told why.
fn obey<O, R>(work: fn(O, Vec<OwnedFd>) -> Outcome<Report<R>>) -> Outcome<bool>
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
    let Some(frame) = frame::receive(&socket).map_err(|error| stray(&error.to_string()))? else {
        // It is not needed, or the daemon has ended.
        return Ok(false);
    };
    let outcome = protocol::decode_request(&frame.payload).and_then(|order| work(order, frame.fds));
    let done = outcome.is_ok();
    let (outcome, fds) = match outcome {
        Ok((report, fds)) => (Ok(report), fds),
        Err(failure) => (Err(failure), Vec::new()),
    };
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if let Err(error) = frame::send(&socket, &protocol::encode_reply(outcome), &borrowed) {
        tracing::warn!("the daemon is gone: {error}");
    }
    Ok(done)
}

/// Standard input as a socket; `/dev/null` takes its place.
fn take_stdin() -> std::io::Result<UnixStream> {
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
