//! /dev/net/tun: queues, and their interfaces where these have gone with the job.
use super::Maker;
use super::common::{open_flags, show};
use crate::error::{RestoreError, RestoreResult};
use crate::namespaces::{find_interface, furnish_tun};
use ckpt_image::record::{FileKindV1, NamespacesV1, OpenFileV1, TunInterfaceV1, TunQueueV1};
use ckpt_sys::SysError;
use ckpt_sys::tun::{self, Number, Setting, flag};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Opens all, and attaches those that are queues.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    // The first queue of each interface that was there.
    let mut found: Vec<&OpenFileV1> = Vec::new();
    let mut first_made: Vec<&OpenFileV1> = Vec::new();
    for file in files {
        let Some((path, queue)) = of(file) else { continue };
        let open = || -> RestoreResult<OwnedFd> {
            let seen = maker.further.seen_for(file.id, path);
            super::path::open(&seen, open_flags(file), libc::S_IFCHR, "the program")
        };
        let made = match queue {
            None => maker.further.in_net_of(file.id, open)?,
            Some(queue) => {
                let is_sibling = |other: &&OpenFileV1| {
                    let name = of(other).and_then(|(_, queue)| Some(&queue?.interface.name));
                    name == Some(&queue.interface.name) && maker.further.share_net(other.id, file.id)
                };
                let is_first = !first_made.iter().any(is_sibling);
                let (made, was_there) =
                    maker.further.in_net_of(file.id, || attach(&open, queue, is_first))?;
                if is_first {
                    first_made.push(file);
                    if was_there {
                        found.push(file);
                    }
                }
                made
            }
        };
        maker.made.insert(file.id, made);
    }
    // Those that are made with a namespace of the job stay until their queues are there.
    for file in found {
        if let Some((_, Some(queue))) = of(file)
            && !queue.interface.persistent
            && is_in_image(maker, file)?
        {
            tun::set(maker.made(file.id)?, Setting::Persistent, 0)?;
        }
    }
    Ok(())
}

fn of(file: &OpenFileV1) -> Option<(&[u8], Option<&TunQueueV1>)> {
    match &file.kind {
        FileKindV1::Tun(tun) => Some((&tun.path, tun.queue.as_ref())),
        _ => None,
    }
}

/// Whether the network namespace of a file is made of what the image has of it.
fn is_in_image(maker: &Maker<'_, '_>, file: &OpenFileV1) -> RestoreResult<bool> {
    if let Some(is_made) = maker.further.makes_net_of(file.id) {
        return Ok(is_made);
    }
    let record = maker.image.records::<NamespacesV1>()?.into_iter().next();
    Ok(record.and_then(|record| record.net).is_some_and(|net| net.path.is_none()))
}

/// Makes one queue in this thread's network namespace; whether its interface was there before. `is_first`: the job has no other queue of it yet.
fn attach(
    open: &dyn Fn() -> RestoreResult<OwnedFd>,
    queue: &TunQueueV1,
    is_first: bool,
) -> RestoreResult<(OwnedFd, bool)> {
    let interface = &queue.interface;
    let refused = |error: SysError| refused(interface, &error);
    let was_there = find_interface(&interface.name)?.is_some();
    let mut made = open()?;
    if !was_there {
        tun::set_index(made.as_fd(), interface.index)?;
        match tun::attach(made.as_fd(), &interface.name, queue.flags) {
            // Another interface has its number.
            Err(error) if error.errno() == Some(Errno::EBUSY) => {
                made = open()?;
                tun::attach(made.as_fd(), &interface.name, queue.flags).map_err(refused)?;
            }
            outcome => outcome.map_err(refused)?,
        }
    } else {
        tun::attach(made.as_fd(), &interface.name, queue.flags).map_err(refused)?;
        let told = tun::attached(made.as_fd())?.map_or(0, |(_, flags)| flags);
        if is_first && told & flag::PERSIST == 0 {
            return Err(refused(SysError::new("ioctl(TUNSETIFF)", interface.name.as_str(), Errno::EBUSY)));
        }
    }
    // Each queue has its own, and one that is set sets those of all that are in service.
    if is_first || !queue.detached {
        tun::set_number(made.as_fd(), Number::SendBuffer, interface.send_buffer)?;
    }
    if is_first {
        set_numbers(made.as_fd(), interface)?;
        if !was_there {
            furnish_tun(&made, interface)?;
        }
    }
    if queue.detached {
        tun::detach_queue(made.as_fd())?;
    }
    Ok((made, was_there))
}

fn set_numbers(fd: BorrowedFd<'_>, interface: &TunInterfaceV1) -> RestoreResult<()> {
    tun::set_number(fd, Number::HeaderSize, interface.header_size)?;
    tun::set_number(fd, Number::LittleEndian, i32::from(interface.little_endian))?;
    // New ones have none.
    if interface.offloads != 0 {
        tun::set(fd, Setting::Offloads, interface.offloads)?;
    }
    Ok(())
}

fn refused(interface: &TunInterfaceV1, error: &SysError) -> RestoreError {
    let name = &interface.name;
    let (reason, remedy) = match error.errno() {
        Some(Errno::EBUSY | Errno::EINVAL | Errno::EEXIST) => (
            "the program has it (TUN or TAP), and there is another of that name, or somebody else has it"
                .into(),
            format!("Rename that or take it away (ip link del {name}) and restore again"),
        ),
        _ => (
            format!("the program has it (TUN or TAP), and it cannot be made: {error}"),
            "Restore as root, or make it for the job's user (ip tuntap add)".into(),
        ),
    };
    RestoreError::File { path: format!("interface {}", show(name.as_bytes())), reason, remedy }
}
