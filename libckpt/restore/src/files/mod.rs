//! Descriptors: every open file description is made once, in this process, handed to the process under construction over a socket, and put
//! at its numbers there. Only what the kernel ties to the calling process is done by remote calls: the credentials
//! of AF_UNIX sockets, epoll entries (which remember a number), locks, owners.
mod bpfmap;
mod channel;
mod common;
mod device;
mod epoll;
mod eventfd;
mod fanotify;
mod fifo;
mod inotify;
mod iouring;
mod locks;
mod memfd;
mod mqueue;
mod namespace;
mod path;
mod pidfd;
mod pipe;
mod place;
mod signalfd;
mod socket;
mod stdio;
mod terminal;
mod timerfd;
mod tun;
mod userfaultfd;

pub(crate) use iouring::Rings;
pub(crate) use mqueue::Queues;
pub(crate) use socket::Connections;

use crate::builder::Builder;
use crate::connections::OutsideConnections;
use crate::content::Contents;
use crate::error::{RestoreError, RestoreResult};
use crate::namespaces::Further;
use crate::restore::RestoreRequest;
use channel::Channel;
use ckpt_image::Image;
use ckpt_image::record::{FdTableId, FdTableV1, FileKindV1, OpenFileId, OpenFileV1};
use ckpt_sys::descriptor::RaisedLimit;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
pub(crate) use terminal::Masters;

/// Our descriptors of the descriptions that are made.
type Made = HashMap<OpenFileId, OwnedFd>;

/// A process with a descriptor table that is its own, or that it is the first to have.
struct Site<'a, 'm> {
    builder: &'a mut Builder<'m>,
    table: &'a FdTableV1,
    channel: Channel,
}

/// The descriptions that are made, and what they are made of.
struct Maker<'a, 'm> {
    /// The root's comes first.
    sites: Vec<Site<'a, 'm>>,
    contents: &'a mut Contents,
    image: &'a Image,
    /// Our descriptors that stand for the outside.
    stdio: [RawFd; 3],
    made: Made,
    /// What becomes of TCP connections to the outside.
    outside: OutsideConnections,
    /// Namespaces that the job's root is not in.
    further: &'a Further,
    connections: Connections,
    rings: Rings,
    ghost_names: socket::GhostNames,
}

impl Maker<'_, '_> {
    /// Our descriptor of a description that was made.
    fn made(&self, id: OpenFileId) -> RestoreResult<BorrowedFd<'_>> {
        let missing = || RestoreError::Inconsistent { what: format!("open file {} is not in it", id.0) };
        self.made.get(&id).map(AsFd::as_fd).ok_or_else(missing)
    }

    /// The first site that holds a description; the first of all for one that is under way in a socket.
    fn holder(&self, id: OpenFileId) -> usize {
        self.sites.iter().position(|site| site.table.fds.iter().any(|fd| fd.file == id)).unwrap_or(0)
    }

    /// The site of process `pid`; the first of all if it has none.
    fn site_of(&self, pid: i32) -> usize {
        self.sites.iter().position(|site| site.builder.remote.pid() == pid).unwrap_or(0)
    }

    /// Runs `work` with the number that a description has, for the time, in the process of a site.
    fn in_process<T>(
        &mut self,
        site: usize,
        fd: BorrowedFd<'_>,
        work: impl FnOnce(&mut Builder<'_>, u64) -> RestoreResult<T>,
    ) -> RestoreResult<T> {
        let Site { builder, channel, .. } = &mut self.sites[site];
        let number = channel.send_one(builder, fd)?;
        let result = work(builder, number);
        builder.call("close", &"a descriptor under construction", libc::SYS_close, &[number])?;
        result
    }
}

/// Rids the process under construction of the descriptors that it was born with, and lets it have as many as it may.
pub(crate) fn prepare(builder: &mut Builder<'_>, table: &FdTableV1) -> RestoreResult<()> {
    close_all(builder)?;
    place::raise_limit(builder, table)
}

/// Gives a process under construction a descriptor of its own of one of ours; its number there.
pub(crate) fn hand_over(builder: &mut Builder<'_>, fd: BorrowedFd<'_>) -> RestoreResult<u64> {
    let empty = FdTableV1 { id: FdTableId(0), fds: Vec::new() };
    let channel = Channel::open(builder, &empty, &[])?;
    let number = channel.send_one(builder, fd)?;
    channel.close(builder)?;
    Ok(number)
}

fn close_all(builder: &mut Builder<'_>) -> RestoreResult<()> {
    let args = [0, u64::from(u32::MAX), 0];
    builder.call("close_range", &"inherited descriptors", libc::SYS_close_range, &args).map(drop)
}

/// Gives processes under construction, which have none, the descriptors of their tables. The job's TCP connections go on when the result is told so, and its
/// io_uring instances are given to the threads that use them.
pub(crate) fn restore_files<'a>(
    holders: Vec<(&'a mut Builder<'_>, &'a FdTableV1)>,
    contents: &'a mut Contents,
    request: &'a RestoreRequest<'_>,
    further: &'a Further,
    masters: Masters,
) -> RestoreResult<(Connections, Rings)> {
    let _limit = RaisedLimit::new();
    let files: Vec<OpenFileV1> = request.image.records()?;
    let used = epoll::numbers(&files);
    let mut sites = Vec::with_capacity(holders.len());
    for (builder, table) in holders {
        close_all(builder)?;
        let channel = Channel::open(builder, table, &used)?;
        sites.push(Site { builder, table, channel });
    }
    let mut maker = Maker {
        sites,
        contents,
        image: request.image,
        stdio: request.stdio,
        made: HashMap::new(),
        outside: request.outside,
        further,
        connections: Connections::default(),
        rings: Rings::default(),
        ghost_names: socket::GhostNames::default(),
    };
    make_all(&mut maker, &files, masters)?;
    for file in &files {
        common::finish(file, maker.made(file.id)?)?;
    }
    epoll::watch_moved(&mut maker, &files)?;
    for site in &mut maker.sites {
        place::place(site, &maker.made, &maker.rings)?;
    }
    epoll::watch(&mut maker, &files)?;
    for file in &files {
        locks::restore_locks(&mut maker, file)?;
    }
    let Maker { sites, connections, rings, .. } = maker;
    sites.into_iter().try_for_each(|Site { builder, channel, .. }| channel.close(builder))?;
    Ok((connections, rings))
}

fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1], masters: Masters) -> RestoreResult<()> {
    for file in files {
        let made = match &file.kind {
            FileKindV1::Path { path, ident, ghost } => path::make(maker, file, path, ident, *ghost)?,
            FileKindV1::Device { path, rdev } => device::make(maker, file, path, *rdev)?,
            FileKindV1::Eventfd { count, semaphore } => eventfd::make(*count, *semaphore)?,
            FileKindV1::Epoll { .. } => epoll::make()?,
            FileKindV1::Timerfd { .. } => timerfd::make(maker.image, &file.kind)?,
            FileKindV1::Signalfd { mask } => signalfd::make(*mask)?,
            FileKindV1::Memfd { shmem } => memfd::make(maker, file, *shmem)?,
            FileKindV1::Pidfd { pid, .. } if *pid > 0 => pidfd::make(file, *pid)?,
            FileKindV1::Namespace { pid, name } => namespace::make(file, *pid, name)?,
            FileKindV1::Stdio { number, .. } => stdio::make(maker.stdio, file, *number)?,
            // These belong together in groups, or must come last.
            FileKindV1::Pidfd { .. }
            | FileKindV1::Pipe(_)
            | FileKindV1::Fifo { .. }
            | FileKindV1::Socket(_)
            | FileKindV1::Terminal(_)
            | FileKindV1::Mqueue(_)
            | FileKindV1::IoUring(_)
            | FileKindV1::BpfMap(_)
            | FileKindV1::Tun(_)
            | FileKindV1::Userfaultfd(_)
            | FileKindV1::Fanotify { .. }
            | FileKindV1::Inotify { .. } => continue,
        };
        maker.made.insert(file.id, made);
    }
    // Before sockets, which may listen at its interfaces.
    tun::make_all(maker, files)?;
    pidfd::make_ended(maker, files)?;
    pipe::make_all(maker, files)?;
    mqueue::make_all(maker, files)?;
    fifo::make_all(maker, files)?;
    terminal::make_all(maker, files, masters)?;
    socket::make_all(maker, files)?;
    iouring::make_all(maker, files)?;
    bpfmap::make_all(maker, files)?;
    userfaultfd::make_all(maker, files)?;
    // Last: what is opened and bound before does not become an event.
    for file in files {
        let made = match &file.kind {
            FileKindV1::Inotify { watches, unread } => inotify::make(maker, file.id, watches, *unread)?,
            FileKindV1::Fanotify { flags, event_flags, marks } => {
                fanotify::make(*flags, *event_flags, marks)?
            }
            _ => continue,
        };
        maker.made.insert(file.id, made);
    }
    Ok(())
}

/// Sets who gets the signals of O_ASYNC: when all threads are there.
pub(crate) fn restore_owners(
    builder: &mut Builder<'_>,
    image: &Image,
    table: &FdTableV1,
) -> RestoreResult<()> {
    common::restore_owners(builder, &image.records::<OpenFileV1>()?, table)
}
