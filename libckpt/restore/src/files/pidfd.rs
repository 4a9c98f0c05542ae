//! pidfd_open(2). All processes are there by then, zombies among them.
use super::Maker;
use crate::error::RestoreResult;
use ckpt_image::record::{FileKindV1, OpenFileId, OpenFileV1};
use ckpt_sys::{pidfd, spawn};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// A pidfd of process `pid`.
pub(super) fn make(file: &OpenFileV1, pid: i32) -> RestoreResult<OwnedFd> {
    Ok(pidfd::open_with(pid, file.flags.cast_signed() & (pidfd::THREAD | libc::O_NONBLOCK))?)
}

/// Makes all pidfds of processes that have ended: for each process one that ends at once with the same status.
pub(super) fn make_ended(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let mut ended: BTreeMap<i32, (i32, Vec<OpenFileId>)> = BTreeMap::new();
    for file in files {
        if let FileKindV1::Pidfd { pid, status } = &file.kind
            && *pid <= 0
        {
            ended.entry(*pid).or_insert_with(|| (status.unwrap_or(0), Vec::new())).1.push(file.id);
        }
    }
    for (status, ids) in ended.into_values() {
        maker.made.extend(ids.iter().copied().zip(spawn::ended_child(status, ids.len())?));
    }
    Ok(())
}
