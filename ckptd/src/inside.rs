//! Work that is done within a job's namespaces: by a child of this process that is there, and that reports over a socket. What it calls a pid
//! is one of theirs.
use crate::failure::{Failure, Outcome};
use crate::protocol::{self, frame};
use ckpt_capture::StoppedJob;
use ckpt_sys::namespace::{self, Namespace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What the child did.
pub(crate) struct Done<R> {
    /// What is to be told.
    pub(crate) report: R,
    /// Userfaultfds of processes.
    pub(crate) tracking: Vec<(i32, OwnedFd)>,
    /// What must stay as it is until the child is killed.
    pub(crate) held: Option<StoppedJob>,
}

/// What the child told, with pids as they are here.
pub(crate) struct Told<R> {
    /// What it told.
    pub(crate) report: R,
    /// Userfaultfds of processes that are there still.
    pub(crate) tracking: Vec<(i32, OwnedFd)>,
    /// The child waits to be killed.
    pub(crate) held: bool,
    /// The pids of the namespaces.
    pub(crate) pids: Pids,
}

/// Why there is no report.
pub(crate) enum Unreported {
    /// The child says why.
    Failed(Failure),
    /// It died in the middle.
    Died(Failure),
}

impl From<Failure> for Unreported {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unreported> for Failure {
    fn from(unreported: Unreported) -> Self {
        match unreported {
            Unreported::Failed(failure) | Unreported::Died(failure) => failure,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Message<R> {
    report: R,
    tracked: Vec<i32>,
    held: bool,
    /// The PID namespace whose pids these are.
    pids: Option<PathBuf>,
}

/// The pids of a PID namespace.
pub(crate) struct Pids(Option<PathBuf>);

impl Pids {
    /// The pids here, by those there, of the processes that are there still.
    pub(crate) fn outer(&self, inner: &[i32]) -> Outcome<BTreeMap<i32, i32>> {
        let fail = |error: ckpt_sys::SysError| Failure::new(error);
        match &self.0 {
            Some(link) if *link != Namespace::Pid.own().map_err(fail)?.unwrap_or_default() => {
                namespace::outer_pids(link, inner).map_err(fail)
            }
            _ => Ok(inner.iter().map(|pid| (*pid, *pid)).collect()),
        }
    }
}

/// The same userfaultfds, by the pids that the processes have where process `root` is.
pub(crate) fn inner_tracking(root: i32, tracking: Vec<(i32, OwnedFd)>) -> Vec<(i32, OwnedFd)> {
    let Some(link) = Namespace::Pid.of(root).ok().flatten() else { return Vec::new() };
    let inner = |(pid, fd)| Some((namespace::id_in(pid, &link)?, fd));
    tracking.into_iter().filter_map(inner).collect()
}

/// Has a child of this process, which `fork` makes, do `work` with what `fork` gave it. The child has that until it has told the outcome.
pub(crate) fn carry_out<T, R: Serialize + DeserializeOwned>(
    fork: impl FnOnce() -> Outcome<(Option<i32>, T)>,
    work: impl FnOnce(&T) -> Outcome<Done<R>>,
) -> Result<Told<R>, Unreported> {
    let fail =
        |error: &dyn std::fmt::Display| Failure::new(format!("cannot talk to a child process: {error}"));
    let (ours, theirs) = UnixStream::pair().map_err(|error| fail(&error))?;
    let (child, with) = fork()?;
    let Some(child) = child else {
        drop(ours);
        report(&theirs, work(&with));
    };
    drop((theirs, with));
    let frame = frame::receive(&ours);
    let frame = frame.map_err(|error| fail(&error))?;
    let Some(frame) = frame else {
        let status = namespace::wait_for(child).unwrap_or(0);
        let failure = format!(
            "the process within the job's namespaces ended before it was done (wait status {status:#x})"
        );
        return Err(Unreported::Died(Failure::new(failure)));
    };
    let message = protocol::decode_reply::<Message<R>>(&frame.payload);
    if !message.as_ref().is_ok_and(|message| message.held) {
        let _ = namespace::wait_for(child);
    }
    let message = message?;
    let pids = Pids(message.pids);
    let outer = pids.outer(&message.tracked)?;
    let tracking = message.tracked.iter().zip(frame.fds);
    let tracking = tracking.filter_map(|(pid, fd)| Some((*outer.get(pid)?, fd))).collect();
    Ok(Told { report: message.report, tracking, held: message.held, pids })
}

/// In the child: tells the outcome and ends.
fn report<R: Serialize>(socket: &UnixStream, outcome: Outcome<Done<R>>) -> ! {
    let (outcome, fds, held) = match outcome {
        Ok(Done { report, tracking, held }) => {
            let (tracked, fds): (Vec<i32>, Vec<OwnedFd>) = tracking.into_iter().unzip();
            let pids = Namespace::Pid.own().ok().flatten();
            (Ok(Message { report, tracked, held: held.is_some(), pids }), fds, held)
        }
        Err(failure) => (Err(failure), Vec::new(), None),
    };
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let sent = frame::send(socket, &protocol::encode_reply(outcome), &borrowed);
    while sent.is_ok() && held.is_some() {
        std::thread::park();
    }
    std::process::exit(0)
}

/// A directory that is reached from other mount namespaces, too.
pub(crate) struct OpenDirectory {
    _open: File,
    here: PathBuf,
    there: PathBuf,
}

impl OpenDirectory {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let open = File::open(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let there = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        Ok(Self { _open: open, here: path.to_owned(), there })
    }

    /// Its path in this process and its children.
    pub(crate) fn path(&self) -> &Path {
        &self.there
    }

    /// A failure that names the directory as the user knows it.
    pub(crate) fn renamed(&self, mut failure: Failure) -> Failure {
        let (here, there) = (self.here.to_string_lossy(), self.there.to_string_lossy());
        failure.message = failure.message.replace(&*there, &here);
        failure
    }
}
