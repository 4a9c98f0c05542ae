//! One capture.
use super::{CaptureOrder, CaptureReport, HotPages, Report};
use crate::failure::{Failure, Outcome};
use crate::inside::{self, Done, OpenDirectory, Unreported};
use crate::protocol::Saved;
use ckpt_capture::{After, CaptureRequest, Namespaces};
use ckpt_dirty::Tracking;
use ckpt_image::{CheckpointId, Kind, Store};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Processes, and when they were started.
type Members = BTreeMap<i32, u64>;

pub(super) fn capture(order: CaptureOrder, mut fds: Vec<OwnedFd>) -> Outcome<Report<CaptureReport>> {
    let lent = if order.lends { fds.pop() } else { None };
    if order.tracked.len() != fds.len() {
        return Err(Failure::new("the order lacks descriptors that it announces"));
    }
    let tracking: Vec<_> = order.tracked.iter().copied().zip(fds).collect();
    let namespaces = Namespaces::of(order.pid)?;
    if namespaces.is_empty() {
        let Done { report, tracking, .. } =
            capture_here(&order, order.pid, &order.store, (tracking, lent), &namespaces)?;
        let (tracked, fds) = tracking.into_iter().unzip();
        let (saved, members, hot_pages) = report;
        return Ok((CaptureReport { saved, tracked, hot_pages, members }, fds));
    }
    let store = OpenDirectory::open(&order.store)?;
    let tracking = inside::inner_tracking(order.pid, tracking);
    let forked = || Ok((namespaces.fork_into(order.pid)?, ()));
    let outcome = inside::carry_out(forked, |&()| {
        capture_here(&order, namespaces.inner_pid(), store.path(), (tracking, lent), &namespaces)
            .map_err(|failure| store.renamed(failure))
    });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(Unreported::Failed(failure)) => return Err(failure),
        // As if this process had been killed: what is left in the job is to be looked for.
        Err(Unreported::Died(failure)) => {
            tracing::error!("{failure}");
            std::process::exit(1);
        }
    };
    if outcome.held {
        // Only from out here can the first process of a PID namespace be killed.
        kill(Pid::from_raw(order.pid), Signal::SIGKILL)
            .map_err(|errno| Failure::new(format!("cannot kill pid {}: {errno}", order.pid)))?;
    }
    let (tracked, fds) = outcome.tracking.into_iter().unzip();
    let (saved, members, hot_pages) = outcome.report;
    Ok((CaptureReport { saved, tracked, hot_pages, members }, fds))
}

/// Takes the checkpoint from where this process is.
fn capture_here(
    order: &CaptureOrder,
    root_pid: i32,
    store: &Path,
    (tracking, lent): (Vec<(i32, OwnedFd)>, Option<OwnedFd>),
    namespaces: &Namespaces,
) -> Outcome<Done<(Saved, Members, HotPages)>> {
    let mut options = order.memory.options();
    options.effort = order.effort;
    let store = Store::open(store)?.with_options(options);
    let mut orphans = order.orphans();
    // Elsewhere the keeper's pid is another's.
    orphans.keeper = orphans.keeper.filter(|_| namespaces.shares_pids());
    let captured = ckpt_capture::capture(CaptureRequest {
        root_pid,
        store: &store,
        copies_max: order.memory.copies(),
        lent,
        job: &order.job,
        full: order.full,
        parent: parent(&store, &order.job, order.last.as_deref()),
        tracking: (!tracking.is_empty())
            .then(|| Tracking::from_fds(tracking).with_hot_pages(order.hot_pages.clone())),
        after: if order.stop { After::Kill } else { After::Run },
        outside: order.tcp,
        unix_peers: order.unix_peer,
        namespaces,
        orphans: &orphans,
    })?;
    let saved = Saved {
        id: captured.id.to_string(),
        job: order.job.clone(),
        kind: match captured.kind {
            Kind::Full => "full".into(),
            Kind::Incremental => "incremental".into(),
        },
        parent: captured.parent.map(String::from),
        pause_us: captured.stats.pause_us,
        pages_frozen: captured.pages_frozen,
        pages_scanned: captured.stats.pages_scanned,
        pages_dirty: captured.stats.pages_dirty,
        bytes_memory: captured.stats.bytes_memory,
        bytes_written: captured.stats.bytes_written,
        data_files: captured.stats.data_files,
        duration_us: captured.stats.duration_us,
    };
    let hot_pages = captured.tracking.as_ref().map(Tracking::hot_pages).unwrap_or_default();
    let tracking = captured.tracking.map(Tracking::into_fds).unwrap_or_default();
    Ok(Done { report: (saved, captured.members, hot_pages), tracking, held: captured.stopped })
}

/// The checkpoint since which writes were tracked, unless somebody removed it: then a full one has to be taken.
fn parent(store: &Store, job: &str, last: Option<&str>) -> Option<CheckpointId> {
    let id: CheckpointId = last?.parse().ok()?;
    match store.manifest(&id) {
        Ok(manifest) if manifest.job == job => Some(id),
        Ok(manifest) => {
            // A copy that was restored beside its original is a job of another name, with a chain of its own.
            tracing::info!("taking a full checkpoint: {id} is of job {}", manifest.job);
            None
        }
        Err(error) => {
            tracing::info!("taking a full checkpoint: {error}");
            None
        }
    }
}
