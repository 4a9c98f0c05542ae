//! Descriptors: the tables of the processes and the open file descriptions behind it, read from outside.
//!
//! A duplicate of each description is brought here by pidfd_getfd(2). It shares its state with the job's, so it is only looked at, never
//! read, moved or set. The exceptions are SO_PEEK_OFF of a socket with a queue of several messages and TCP_REPAIR of a connection, which are put back at
//! once, or by whoever finds the journal of a capture that was killed.
mod ahead;
mod anon;
mod bpfmap;
mod device;
mod epoll;
mod eventfd;
mod fanotify;
mod fdinfo;
mod fifo;
pub(crate) mod index;
mod inotify;
mod iouring;
mod locks;
mod memfd;
mod mqueue;
mod namespace;
mod path;
mod pidfd;
mod pipe;
mod reading;
mod signalfd;
mod socket;
mod stdio;
mod terminal;
#[cfg(test)]
mod tests;
mod timerfd;
mod tun;
mod userfaultfd;

use crate::error::{CaptureError, CaptureResult};
use crate::namespaces::Further;
use crate::objects::Objects;
use crate::process::Process;
pub(crate) use ahead::Ahead;
use ckpt_image::record::{DatagramV1, FdTableId, FdTableV1, FdV1, FileKindV1, OpenFileId, OpenFileV1};
use ckpt_sys::descriptor::{FileOwner, RaisedLimit};
use ckpt_sys::mqueue::is_queue;
use ckpt_sys::pidfd::open as open_pidfd;
use ckpt_sys::unix_diag::{self, UnixSocket};
use fdinfo::FdInfo;
use index::{FileIndex, FoundFile};
pub(crate) use iouring::{Users as RingUsers, is_ring, quiesce, settle as settle_rings};
pub(crate) use reading::Descriptors;
use reading::Raw;
pub(crate) use socket::journal::Journal;
pub(crate) use socket::packet_ring::{is_of_socket, settle as settle_packet_rings};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// What the files of this module share while the descriptions of a job are saved.
struct Context<'a> {
    /// All descriptions.
    index: &'a FileIndex,
    /// Contents go here; None: only look whether it can be saved.
    objects: Option<&'a mut Objects>,
    /// What is changed for a moment is noted here; None as with `objects`.
    journal: Option<&'a Journal<'a>>,
    /// AF_UNIX sockets of this machine, by inode; empty when the job has none.
    unix: HashMap<u64, UnixSocket>,
    /// What waits in the queues of the job's AF_UNIX sockets.
    queues: HashMap<OpenFileId, Vec<DatagramV1>>,
    /// Multicast groups that sockets have joined; read when one is asked for.
    groups: socket::Groups,
    /// TCP connections.
    connections: socket::Connections,
    /// Messages wait that were not looked at: descriptors may be under way in them.
    unseen: bool,
    /// Whose controlling terminals there are; read when one is asked for.
    sessions: terminal::Sessions,
    /// BPF maps that were seen, by id.
    bpf_maps: HashSet<u32>,
}

impl Context<'_> {
    /// `file` cannot be saved.
    fn unsupported(
        &self,
        file: &FoundFile,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> CaptureError {
        CaptureError::unsupported(self.index.holder(file), self.index.name(file), reason, remedy)
    }
}

type Describe = fn(&mut Context<'_>, &FoundFile) -> CaptureResult<FileKindV1>;

/// Who saves a description, by its link and the type of its inode.
fn describer(file: &FoundFile) -> Describe {
    if file.link.starts_with(b"anon_inode:") {
        return anon::describer(&file.link);
    }
    if file.info.flags & libc::O_PATH.unsigned_abs() != 0 {
        return path::describe;
    }
    match file.meta.mode() & libc::S_IFMT {
        libc::S_IFIFO if file.link.starts_with(b"pipe:[") => pipe::describe,
        libc::S_IFIFO => fifo::describe,
        libc::S_IFSOCK => socket::describe,
        libc::S_IFCHR => device::describe,
        libc::S_IFREG if file.link.starts_with(b"/memfd:") && file.meta.nlink() == 0 => memfd::describe,
        libc::S_IFREG if namespace::is_namespace(&file.link) => namespace::describe,
        libc::S_IFREG if is_queue(file.dup()) => mqueue::describe,
        libc::S_IFREG | libc::S_IFDIR if file.link.starts_with(b"/") => path::describe,
        _ => anon::unknown,
    }
}

/// Saves the descriptors of processes of the job that has these `members`, all of whose threads are stopped, and none of which shares its table with another of them.
/// Most of them have been read.
pub(crate) fn capture_files(
    processes: &[&Process],
    descriptors: &mut Descriptors,
    members: &[i32],
    objects: &mut Objects,
    journal: &Journal<'_>,
) -> CaptureResult<Vec<FdTableV1>> {
    let _limit = RaisedLimit::new();
    let mut index = FileIndex::of_job(members, &objects.further);
    let mut tables = Vec::with_capacity(processes.len());
    index.reserve(descriptors.len());
    for Process { pid, pidfd, .. } in processes {
        let Some(read) = descriptors.take(*pid) else {
            tables.push(collect(*pid, pidfd.as_fd(), &index::list(*pid)?, &mut index)?);
            continue;
        };
        let mut fds = Vec::with_capacity(read.len());
        for (fd, raw) in read {
            let (file, cloexec) = index.add_descriptor((*pid, fd), raw?)?;
            fds.push(FdV1 { fd, cloexec, file });
        }
        fds.sort_unstable_by_key(|entry| entry.fd);
        tables.push(FdTableV1 { id: FdTableId(pid.unsigned_abs()), fds });
    }
    describe_all(&mut index, objects, journal)?;
    Ok(tables)
}

/// Undoes what the journal of a killed capture says. `journal` is our own: to get at a socket that is under way in another we may have to peek, too.
pub(crate) fn undo(pids: &[i32], left_behind: &Journal<'_>, journal: &Journal<'_>) -> CaptureResult<()> {
    let Some(note) = left_behind.read()? else { return Ok(()) };
    let _limit = RaisedLimit::new();
    let mut index = FileIndex::default();
    for &pid in pids {
        let Ok(process) = open_pidfd(pid) else { continue };
        collect(pid, process.as_fd(), &index::list(pid)?, &mut index)?;
    }
    let mut at = 0;
    while index.socket(note.inode).is_none()
        && let Some(file) = index.files().get(at).cloned()
    {
        at += 1;
        if socket::is_unix(&file)? {
            socket::peek::peek_queue(&mut index, &file, journal)?;
        }
    }
    // It may have been closed since.
    if let Some(file) = index.socket(note.inode) {
        note.undo(file.dup())?;
    }
    left_behind.clear()
}

/// Describes all of the index in `objects`.
fn describe_all(index: &mut FileIndex, objects: &mut Objects, journal: &Journal<'_>) -> CaptureResult<()> {
    let Unix { sockets: unix, queues, unseen } = look_at_unix_sockets(index, Some(journal))?;
    let connections = socket::Connections::look_at(index, Some((&mut objects.held, journal)))?;
    let mut described = Vec::with_capacity(index.files().len());
    let mut context = Context {
        index,
        objects: Some(objects),
        journal: Some(journal),
        unix,
        queues,
        groups: socket::Groups::default(),
        connections,
        unseen,
        sessions: terminal::Sessions::default(),
        bpf_maps: HashSet::new(),
    };
    for file in index.files() {
        described.push(describe(&mut context, file)?);
    }
    objects.open_files.append(&mut described);
    Ok(())
}

/// What was found of descriptors of processes that run on all the while.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// What cannot be saved.
    pub(crate) errors: Vec<CaptureError>,
    /// What is saved in a way that the user may choose.
    pub(crate) remarks: Vec<String>,
}

/// Looks at the descriptors of processes `pids`, which run on all the while.
pub(crate) fn check(pids: &[i32]) -> Checked {
    let _limit = RaisedLimit::new();
    let mut errors = Vec::new();
    let further = Further::find(pids).unwrap_or_else(|error| {
        errors.push(error);
        Further::default()
    });
    let mut index = FileIndex::of_job(pids, &Arc::new(further));
    for &pid in pids {
        let looked = open_pidfd(pid)
            .map_err(CaptureError::from)
            .and_then(|process| collect(pid, process.as_fd(), &index::list(pid)?, &mut index));
        errors.extend(looked.map_err(|error| error.or_exited(pid)).err());
    }
    let looked = look_at_unix_sockets(&mut index, None)
        .and_then(|unix| Ok((unix, socket::Connections::look_at(&index, None)?)));
    let (Unix { sockets: unix, queues, unseen }, connections) = match looked {
        Ok(looked) => looked,
        Err(error) => return Checked { errors: vec![error], remarks: Vec::new() },
    };
    let remarks = connections.outside().to_vec();
    let mut context = Context {
        index: &index,
        objects: None,
        journal: None,
        unix,
        queues,
        groups: socket::Groups::default(),
        connections,
        unseen,
        sessions: terminal::Sessions::default(),
        bpf_maps: HashSet::new(),
    };
    let files: Vec<Arc<FoundFile>> = index.files().to_vec();
    errors.extend(files.iter().filter_map(|file| describe(&mut context, file).err()));
    Checked { errors, remarks }
}

fn collect(
    pid: i32,
    process: BorrowedFd<'_>,
    list: &[i32],
    index: &mut FileIndex,
) -> CaptureResult<FdTableV1> {
    let mut fds = Vec::with_capacity(list.len());
    for &fd in list {
        let raw = Raw::read(pid, process, fd);
        match raw.and_then(|raw| index.add_descriptor((pid, fd), raw)) {
            Ok((file, cloexec)) => fds.push(FdV1 { fd, cloexec, file }),
            // Closed since it was listed: only in a process that runs.
            Err(CaptureError::Sys(error))
                if error.is_gone() || error.errno() == Some(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(FdTableV1 { id: FdTableId(pid.unsigned_abs()), fds })
}

/// What is known of AF_UNIX sockets.
struct Unix {
    sockets: HashMap<u64, UnixSocket>,
    queues: HashMap<OpenFileId, Vec<DatagramV1>>,
    unseen: bool,
}

/// Peeks into the queues of all AF_UNIX sockets; descriptors in them, and in the queues of sockets among these, join the index. Without a journal it looks
/// at the first messages only.
fn look_at_unix_sockets(index: &mut FileIndex, journal: Option<&Journal<'_>>) -> CaptureResult<Unix> {
    let mut queues = HashMap::new();
    let mut unseen = false;
    let mut at = 0;
    let mut any = false;
    while let Some(file) = index.files().get(at).cloned() {
        at += 1;
        if !socket::is_unix(&file)? {
            continue;
        }
        any = true;
        if let Some(journal) = journal {
            let queue = socket::peek::peek_queue(index, &file, journal)?;
            queues.insert(file.id, queue);
        } else {
            unseen |= !socket::peek::glance(index, &file)?;
        }
    }
    let mut sockets = HashMap::new();
    if any {
        index.in_nets(|_| {
            sockets.extend(unix_diag::sockets()?);
            Ok(())
        })?;
    }
    Ok(Unix { sockets, queues, unseen })
}

fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<OpenFileV1> {
    let net = context.index.net_of(file)?;
    if let (Some(net), Some(objects)) = (net, context.objects.as_mut()) {
        objects.further_files.push((file.id, net));
    }
    let kind = context.index.in_net_of(file, || describer(file)(context, file))?;
    let FileOwner { owner, signal } = file.owner;
    let owner_kind = if owner.id == 0 { 0 } else { owner.kind.unsigned_abs() + 1 };
    Ok(OpenFileV1 {
        id: file.id,
        flags: file.info.status_flags(),
        position: file.info.position,
        owner: (owner_kind, owner.id),
        owner_signal: signal,
        locks: locks::capture_locks(context, file)?,
        kind,
    })
}
