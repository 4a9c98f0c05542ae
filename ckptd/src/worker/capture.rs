//! One capture.
use super::{CaptureOrder, CaptureReport, Report};
use crate::failure::{Failure, Outcome};
use crate::protocol::Saved;
use ckpt_capture::{After, CaptureRequest};
use ckpt_dirty::Tracking;
use ckpt_image::{CheckpointId, Kind, Store};
use std::os::fd::OwnedFd;

pub(super) fn capture(order: CaptureOrder, fds: Vec<OwnedFd>) -> Outcome<Report<CaptureReport>> {
    if order.tracked.len() != fds.len() {
        return Err(Failure::new("the order lacks descriptors that it announces"));
    }
    let store = Store::open(&order.store)?;
    let tracking: Vec<_> = order.tracked.into_iter().zip(fds).collect();
    let captured = ckpt_capture::capture(CaptureRequest {
        root_pid: order.pid,
        store: &store,
        job: &order.job,
        full: order.full,
        parent: parent(&store, order.last.as_deref()),
        tracking: (!tracking.is_empty()).then(|| Tracking::from_fds(tracking)),
        after: if order.stop { After::Kill } else { After::Run },
        outside: order.tcp,
        unix_peers: order.unix_peer,
    })?;
    let saved = Saved {
        id: captured.id.to_string(),
        job: order.job,
        kind: match captured.kind {
            Kind::Full => "full".into(),
            Kind::Incremental => "incremental".into(),
        },
        parent: captured.parent.map(String::from),
        pause_us: captured.stats.pause_us,
        pages_scanned: captured.stats.pages_scanned,
        pages_dirty: captured.stats.pages_dirty,
        bytes_memory: captured.stats.bytes_memory,
        bytes_written: captured.stats.bytes_written,
        data_files: captured.stats.data_files,
        duration_us: captured.stats.duration_us,
    };
    let (tracked, fds) = captured.tracking.map(Tracking::into_fds).unwrap_or_default().into_iter().unzip();
    Ok((CaptureReport { saved, tracked }, fds))
}

/// The checkpoint since which writes were tracked, unless somebody removed it: then a full one has to be taken.
fn parent(store: &Store, last: Option<&str>) -> Option<CheckpointId> {
    let id: CheckpointId = last?.parse().ok()?;
    match store.manifest(&id) {
        Ok(_) => Some(id),
        Err(error) => {
            tracing::info!("taking a full checkpoint: {error}");
            None
        }
    }
}
