//! Memory that comes late: a job runs before its memory is filled, and its pages come when they are touched or when it is their turn.
//!
//! Two processes do it, which have one table of descriptors: a *server* (server.rs), which fills pages, and a *guard* (guard.rs), its parent, which does
//! nothing but to wait for its end. When the server dies early, the userfaultfds are still open, so that whoever waits for a page goes on waiting; the
//! guard ends the job, and only then lets go of them. When both die at the same moment, the kernel ends the job as it closes their descriptors
//! (`ckpt_sys::fate`), before it closes the userfaultfds. Nobody ever reads zeros from a page that was not filled.
mod guard;
mod missing;
mod plan;
mod processes;
mod server;
mod settle;
mod space;

use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_dirty::DirtyError;
use ckpt_image::Image;
use ckpt_image::record::{MmId, MmV1, TaskV1};
use ckpt_sys::handover::{self, Parcel};
use ckpt_sys::{SysError, late_pages, namespace, pidfd, spawn, uffd};
use nix::errno::Errno;
pub(crate) use plan::Plan;
use processes::Keeper;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The word that the server's report is when all went well.
pub const FILLED: u8 = b'f';

/// Parcels: a process of the job (a pidfd).
const PROCESS: u64 = 1;
/// An address space (its number in the plan, and its userfaultfd).
const MEMORY: u64 = 2;
/// Whose address space it is (its number, and a pidfd).
const OWNER: u64 = 5;
/// The userfaultfd that tracks writes to it.
const TRACKER: u64 = 3;
/// The job runs.
const RUNS: u64 = 4;

/// The processes that fill memory late, as the restoring process sees them.
#[derive(Debug)]
pub struct Filling {
    socket: OwnedFd,
    report: OwnedFd,
    plan: Plan,
}

impl Filling {
    /// Starts them; None if the image has no memory that can come late. To be called before this process becomes a child subreaper, whose children are the
    /// job and nothing else; this process then has to be the parent of the job's root.
    ///
    /// # Errors
    /// No process can be made: this one has several threads, for example.
    pub fn start(image: &Image) -> RestoreResult<Option<Self>> {
        let plan = Plan::of(image)?;
        if plan.memories.is_empty() {
            return Ok(None);
        }
        let (socket, theirs) = handover::pair()?;
        let (report, told) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)
            .map_err(|errno| SysError::new("pipe2", "a child process", errno))?;
        let keeper = Keeper::own()?;
        // A child of a child: its parent is nobody here.
        match spawn::fork(0, None)? {
            Some(child) => drop(namespace::wait_for(child)?),
            None => {
                let _ = nix::unistd::setsid();
                match spawn::fork(0, None) {
                    Ok(None) => guard::stand(image, &plan, theirs, told, keeper),
                    made => spawn::exit_now(i32::from(made.is_err())),
                }
            }
        }
        Ok(Some(Self { socket, report, plan }))
    }

    /// The end of a pipe from which [`FILLED`] can be read when all memory is there and tracked from then on. An end without that: the job was
    /// ended, or what is tracked of it cannot be relied upon.
    #[must_use]
    pub fn into_report(self) -> OwnedFd {
        self.report
    }

    /// What comes late.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Tells of the job's processes, which all end if the server does.
    pub(crate) fn add_processes(&self, tasks: &[TaskV1]) -> RestoreResult<()> {
        tasks.iter().try_for_each(|task| {
            let process = pidfd::open(task.pid)?;
            self.send([PROCESS, 0], Some(process.as_fd()))
        })
    }

    /// Hands over what comes late of an address space: who touches a page of it from now on waits for the server. Whether that could be done.
    pub(crate) fn hand_over(&self, builder: &mut Builder<'_>, mm: &MmV1) -> RestoreResult<bool> {
        let Some((number, memory)) = self.plan.memory(mm.id) else { return Ok(true) };
        let flags = uffd::O_CLOEXEC | late_pages::O_NONBLOCK;
        let made = ckpt_dirty::make_userfaultfd(&mut builder.remote, flags).map_err(|error| match error {
            DirtyError::Sys(error) => RestoreError::from(error),
            DirtyError::Inject(error) => error.into(),
        })?;
        let made = made.map_err(|errno| SysError::new("userfaultfd", "the restored process", errno));
        let made = made.and_then(|fd| late_pages::enable(fd.as_fd()).map(|()| fd));
        let fd = match made {
            Ok(fd) => fd,
            Err(error) => {
                tracing::warn!(%error, "all memory is filled before the program runs");
                return Ok(false);
            }
        };
        for range in &memory.ranges {
            late_pages::register(fd.as_fd(), range.clone())?;
        }
        self.send([OWNER, number], Some(pidfd::open(builder.remote.pid())?.as_fd()))?;
        self.send([MEMORY, number], Some(fd.as_fd()))?;
        // From here on it is the server's alone.
        match handover::receive(self.socket.as_fd())? {
            Some(Parcel { words: [MEMORY, _], .. }) => Ok(true),
            _ => Err(gone()),
        }
    }

    /// Hands a copy over of what tracks writes to an address space.
    pub(crate) fn track(&self, mm: MmId, tracker: BorrowedFd<'_>) -> RestoreResult<()> {
        let Some((number, _)) = self.plan.memory(mm) else { return Ok(()) };
        self.send([TRACKER, number], Some(tracker))
    }

    /// The job runs.
    pub(crate) fn go(&self) -> RestoreResult<()> {
        self.send([RUNS, 0], None)
    }

    fn send(&self, words: [u64; 2], fd: Option<BorrowedFd<'_>>) -> RestoreResult<()> {
        handover::send(self.socket.as_fd(), words, fd).map_err(|error| match error.errno() {
            Some(Errno::EPIPE | Errno::ECONNRESET) => gone(),
            _ => error.into(),
        })
    }
}

fn gone() -> RestoreError {
    RestoreError::Machine {
        reason: "the process that fills its memory has ended before the program ran".into(),
        remedy: "Restore again, without --lazy if it happens again".into(),
    }
}

/// The descriptors that the server and the guard need of their parent's.
fn needed(image: &Image, others: &[&OwnedFd]) -> Vec<i32> {
    let own = others.iter().map(|fd| fd.as_raw_fd());
    image.descriptors().map(|fd| fd.as_raw_fd()).chain(own).chain([2]).collect()
}
