//! Removing old checkpoints and merging chains.
use super::{MaintainOrder, MaintainReport, Report};
use crate::failure::Outcome;
use ckpt_image::{ChainLimits, Store};
use ckpt_sys::sched;
use nix::sys::signal::Signal;
use std::os::fd::OwnedFd;

/// What others get of a processor before this gets any, as of setpriority(2).
const NICE: i32 = 10;

pub(super) fn maintain(order: MaintainOrder, _fds: Vec<OwnedFd>) -> Outcome<Report<MaintainReport>> {
    // Whoever ends the daemon need not wait for this: it can be left at any point.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let _ = sched::set_niceness(NICE);
    // Where sessions are scheduled as groups, nice values mean something within a session only: sched(7).
    let _ = sched::set_session_niceness(NICE);
    let store = Store::open(&order.store)?;
    let done = store.maintain(&order.job, &order.keep.into(), &ChainLimits::default())?;
    done.removed.iter().for_each(crate::cli::give_up_connections);
    let report = MaintainReport {
        merged: done.merged.map(String::from),
        removed: done.removed.len(),
        length: u64::try_from(done.length).unwrap_or(u64::MAX),
    };
    Ok((report, Vec::new()))
}
