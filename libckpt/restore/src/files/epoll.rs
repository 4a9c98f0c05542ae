//! epoll(7). An entry is known by its description and the number under which it was added, and adds are remote calls: the number is
//! looked up in the table of the caller.
use super::{Maker, Site};
use crate::builder::Builder;
use crate::error::RestoreResult;
use ckpt_image::record::{EpollTargetV1, FdTableV1, FileKindV1, OpenFileId, OpenFileV1};
use ckpt_sys::SysError;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

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

/// The numbers of all entries: some are no descriptor's any more.
pub(super) fn numbers(files: &[OpenFileV1]) -> Vec<i32> {
    files.iter().flat_map(targets).map(|target| target.fd).collect()
}

/// The entry's number is its description's, and so is the set's own.
fn in_table(table: &FdTableV1, set: OpenFileId, target: &EpollTargetV1) -> Option<u64> {
    let number = table.fds.iter().find(|fd| fd.file == set)?;
    let at = table.fds.binary_search_by_key(&target.fd, |fd| fd.fd).ok()?;
    (table.fds[at].file == target.file).then(|| u64::from(number.fd.unsigned_abs()))
}

/// EPOLL*: how an entry reports, not what.
const PRIVATE: u32 =
    (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLWAKEUP | libc::EPOLLEXCLUSIVE).cast_unsigned();

/// A one-shot entry that has reported.
fn is_disarmed(target: &EpollTargetV1) -> bool {
    target.events & !PRIVATE == 0
}

/// Adds the entries that can or must be added while the table is still empty, when any number can be taken for the time: disarmed ones;
/// then those whose number is another description's by now, or none's, or whose set is under way in a socket. An entry lives as
/// long as its description, which we hold.
pub(super) fn watch_moved(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    for file in files {
        let (disarmed, armed): (Vec<_>, Vec<_>) =
            targets(file).iter().partition(|target| is_disarmed(target));
        for target in disarmed {
            add_disarmed(maker, file.id, target)?;
        }
        for target in armed {
            if maker.sites.iter().any(|site| in_table(site.table, file.id, target).is_some()) {
                continue;
            }
            at_number(maker, file.id, target, |builder, set| {
                control(builder, set, libc::EPOLL_CTL_ADD, target)
            })?;
        }
    }
    Ok(())
}

/// An entry is disarmed by reporting: it is added for whatever holds of its file now, and what it reports is taken off. Of a file that has
/// nothing to report, it reports an error or a hang-up, if that should ever come.
fn add_disarmed(maker: &mut Maker<'_, '_>, set: OpenFileId, target: &EpollTargetV1) -> RestoreResult<()> {
    let anything = (libc::EPOLLIN | libc::EPOLLOUT).cast_unsigned();
    let armed = EpollTargetV1 { events: target.events | anything, ..*target };
    at_number(maker, set, target, |builder, number| control(builder, number, libc::EPOLL_CTL_ADD, &armed))?;
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let own = maker.made(set)?.as_raw_fd();
    // SAFETY: room for one event, no wait. Nothing but disarmed entries is in the set yet.
    if unsafe { libc::epoll_wait(own, &raw mut event, 1, 0) } == 1 {
        return Ok(());
    }
    at_number(maker, set, target, |builder, number| control(builder, number, libc::EPOLL_CTL_MOD, target))
}

/// Runs `work` with the set's number for the time, while the entry's description has the entry's number.
fn at_number(
    maker: &mut Maker<'_, '_>,
    set: OpenFileId,
    target: &EpollTargetV1,
    work: impl FnOnce(&mut Builder<'_>, u64) -> RestoreResult<()>,
) -> RestoreResult<()> {
    let clone = |id| -> RestoreResult<OwnedFd> {
        let fd = maker.made(id)?.try_clone_to_owned();
        Ok(fd.map_err(|error| SysError::new("dup", "an epoll entry", error))?)
    };
    let set_id = set;
    let (set, watched) = (clone(set)?, clone(target.file)?);
    let at = maker.holder(set_id);
    let Site { builder, channel, .. } = &mut maker.sites[at];
    let wanted = u64::from(target.fd.unsigned_abs());
    let close = |builder: &mut Builder<'_>, number: u64| {
        builder.call("close", &format!("fd {number}"), libc::SYS_close, &[number]).map(drop)
    };
    // What is received gets the lowest number: the set must not sit where the entry goes.
    let landed = channel.send_one(builder, watched.as_fd())?;
    if landed != wanted {
        builder.call("dup3", &format!("fd {wanted}"), libc::SYS_dup3, &[landed, wanted, cloexec()])?;
        close(builder, landed)?;
    }
    let number = channel.send_one(builder, set.as_fd())?;
    work(builder, number)?;
    close(builder, number)?;
    close(builder, wanted)
}

fn cloexec() -> u64 {
    u64::from(libc::O_CLOEXEC.unsigned_abs())
}

/// Adds the other entries, when the table is complete.
pub(super) fn watch(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    for file in files {
        for target in targets(file).iter().filter(|target| !is_disarmed(target)) {
            let mut sites = maker.sites.iter_mut();
            let found = sites.find_map(|site| Some((in_table(site.table, file.id, target)?, site)));
            if let Some((set, site)) = found {
                control(site.builder, set, libc::EPOLL_CTL_ADD, target)?;
            }
        }
    }
    Ok(())
}

fn control(builder: &mut Builder<'_>, set: u64, operation: i32, target: &EpollTargetV1) -> RestoreResult<()> {
    // struct epoll_event is packed on x86-64.
    let mut event = target.events.to_ne_bytes().to_vec();
    if cfg!(not(target_arch = "x86_64")) {
        event.extend([0; 4]);
    }
    event.extend(target.data.to_ne_bytes());
    let at = builder.place(&event)?;
    let operation = u64::from(operation.unsigned_abs());
    let args = [set, operation, u64::from(target.fd.unsigned_abs()), at.get()];
    let object = format!("fd {} in the set of fd {set}", target.fd);
    builder.call("epoll_ctl", &object, libc::SYS_epoll_ctl, &args).map(drop)
}
