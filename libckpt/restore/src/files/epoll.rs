//! epoll(7). An entry is known by its description and the number under which it was added, and adds are remote calls: the number is
//! looked up in the table of the caller.
use super::Maker;
use crate::builder::Builder;
use crate::error::RestoreResult;
use ckpt_image::record::{EpollTargetV1, FdTableV1, FileKindV1, OpenFileId, OpenFileV1};
use ckpt_sys::SysError;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use std::os::fd::OwnedFd;

/// Makes an empty set.
pub(super) fn make() -> RestoreResult<OwnedFd> {
    let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
    Ok(set.map_err(|errno| SysError::new("epoll_create", "a set", errno))?.0)
}

fn targets(file: &OpenFileV1) -> &[EpollTargetV1] {
    match &file.kind {
        FileKindV1::Epoll { targets } => targets,
        _ => &[],
    }
}

/// The entry's number is its description's, and so is the set's own.
fn in_table(table: &FdTableV1, set: OpenFileId, target: &EpollTargetV1) -> Option<u64> {
    let number = table.fds.iter().find(|fd| fd.file == set)?;
    let at = table.fds.binary_search_by_key(&target.fd, |fd| fd.fd).ok()?;
    (table.fds[at].file == target.file).then(|| u64::from(number.fd.unsigned_abs()))
}

/// Adds the entries whose number is another description's by now, or none's, or whose set is under way in a socket. The table is
/// still empty: any number can be taken for the time. An entry lives as long as its description, which we hold.
pub(super) fn watch_moved(
    maker: &mut Maker<'_, '_>,
    files: &[OpenFileV1],
    table: &FdTableV1,
) -> RestoreResult<()> {
    for file in files {
        for target in targets(file) {
            if in_table(table, file.id, target).is_some() {
                continue;
            }
            let clone = |id| -> RestoreResult<OwnedFd> {
                let fd = maker.made(id)?.try_clone_to_owned();
                Ok(fd.map_err(|error| SysError::new("dup", "an epoll entry", error))?)
            };
            let (set, watched) = (clone(file.id)?, clone(target.file)?);
            let Maker { builder, channel, .. } = maker;
            let wanted = u64::from(target.fd.unsigned_abs());
            let close = |builder: &mut Builder<'_>, number: u64| {
                builder.call("close", &format!("fd {number}"), libc::SYS_close, &[number]).map(drop)
            };
            // Received descriptors get the lowest numbers: the set must not sit where the entry goes.
            let landed = channel.send_one(builder, std::os::fd::AsFd::as_fd(&watched))?;
            if landed != wanted {
                builder.call(
                    "dup3",
                    &format!("fd {wanted}"),
                    libc::SYS_dup3,
                    &[landed, wanted, cloexec()],
                )?;
                close(builder, landed)?;
            }
            let number = channel.send_one(builder, std::os::fd::AsFd::as_fd(&set))?;
            add(builder, number, target)?;
            close(builder, number)?;
            close(builder, wanted)?;
        }
    }
    Ok(())
}

fn cloexec() -> u64 {
    u64::from(libc::O_CLOEXEC.unsigned_abs())
}

/// Adds the other entries, when the table is complete.
pub(super) fn watch(maker: &mut Maker<'_, '_>, files: &[OpenFileV1], table: &FdTableV1) -> RestoreResult<()> {
    for file in files {
        for target in targets(file) {
            if let Some(set) = in_table(table, file.id, target) {
                add(maker.builder, set, target)?;
            }
        }
    }
    Ok(())
}

fn add(builder: &mut Builder<'_>, set: u64, target: &EpollTargetV1) -> RestoreResult<()> {
    // struct epoll_event is packed on x86-64.
    let mut event = target.events.to_ne_bytes().to_vec();
    if cfg!(not(target_arch = "x86_64")) {
        event.extend([0; 4]);
    }
    event.extend(target.data.to_ne_bytes());
    let at = builder.place(&event)?;
    let operation = u64::from(libc::EPOLL_CTL_ADD.unsigned_abs());
    let args = [set, operation, u64::from(target.fd.unsigned_abs()), at.get()];
    let object = format!("fd {} in the set of fd {set}", target.fd);
    builder.call("epoll_ctl(EPOLL_CTL_ADD)", &object, libc::SYS_epoll_ctl, &args).map(drop)
}
