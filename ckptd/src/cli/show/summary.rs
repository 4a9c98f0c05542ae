//! What `ckpt show` tells of an image.
use crate::cli::print::Checkpoint;
use ckpt_image::page::PAGE_SIZE;
use ckpt_image::record::{
    FarEndV1, FdTableV1, FileKindV1, InventoryV1, MmV1, OpenFileV1, SocketStateV1, SocketV1, TaskV1,
    TcpConnectionV1, TerminalEndV1, TerminalSideV1, ThreadV1,
};
use ckpt_image::{CheckpointId, Image, RecordInfo, StoreError};
use serde::Serialize;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An image in short.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    #[serde(flatten)]
    checkpoint: Checkpoint<'a>,
    chain: &'a [CheckpointId],
    pub(super) inventory: InventoryV1,
    /// Bytes of memory that the checkpoint and its chain hold.
    pub(super) memory_bytes: u64,
    pub(super) tasks: Vec<Task>,
    records: Vec<RecordInfo>,
}

/// A process in short.
#[derive(Serialize)]
pub(super) struct Task {
    pub(super) pid: i32,
    ppid: i32,
    pub(super) exe: String,
    pub(super) threads: Vec<Thread>,
    pub(super) mappings: usize,
    /// Bytes of address space, whether or not there is memory behind it.
    pub(super) mapped_bytes: u64,
    pub(super) files: Vec<File>,
}

/// A thread in short.
#[derive(Serialize)]
pub(super) struct Thread {
    tid: i32,
    name: String,
}

/// A descriptor in short.
#[derive(Serialize)]
pub(super) struct File {
    pub(super) fd: i32,
    pub(super) what: String,
    socket: bool,
}

impl<'a> Summary<'a> {
    /// Reads what there is to tell.
    pub(super) fn of(image: &'a Image) -> Result<Self, StoreError> {
        let files: HashMap<_, _> =
            image.records::<OpenFileV1>()?.into_iter().map(|file| (file.id, file)).collect();
        let mms: HashMap<_, _> = image.records::<MmV1>()?.into_iter().map(|mm| (mm.id, mm)).collect();
        let tables: HashMap<_, _> =
            image.records::<FdTableV1>()?.into_iter().map(|table| (table.id, table)).collect();
        let threads = image.records::<ThreadV1>()?;
        let tasks = image.records::<TaskV1>()?.into_iter().map(|task| {
            let mm = mms.get(&task.mm);
            let vmas = mm.map(|mm| mm.vmas.as_slice()).unwrap_or_default();
            let fds = tables.get(&task.fd_table).map(|table| table.fds.as_slice()).unwrap_or_default();
            Task {
                pid: task.pid,
                ppid: task.ppid,
                exe: mm.map(|mm| text(&mm.exe)).unwrap_or_default(),
                threads: threads
                    .iter()
                    .filter(|thread| thread.pid == task.pid)
                    .map(|thread| Thread { tid: thread.tid, name: text(&thread.comm) })
                    .collect(),
                mappings: vmas.len(),
                mapped_bytes: vmas.iter().map(|vma| vma.end - vma.start).sum(),
                files: fds
                    .iter()
                    .filter_map(|fd| files.get(&fd.file).map(|file| describe(fd.fd, &file.kind)))
                    .collect(),
            }
        });
        let tasks = tasks.collect();
        let pages: u64 = image.spaces().map(|space| image.page_count(space)).sum();
        Ok(Self {
            checkpoint: Checkpoint::of(image.manifest()),
            chain: image.chain(),
            inventory: image.inventory()?,
            memory_bytes: pages * PAGE_SIZE as u64,
            tasks,
            records: image.record_list().collect(),
        })
    }
}

fn describe(fd: i32, kind: &FileKindV1) -> File {
    let what = match kind {
        FileKindV1::Path { path, ghost: None, .. } | FileKindV1::Device { path, .. } => text(path),
        FileKindV1::Path { path, ghost: Some(_), .. } => format!("{} (deleted, contents saved)", text(path)),
        FileKindV1::Pipe(pipe) => format!("pipe {}", pipe.inode),
        FileKindV1::Fifo { path, .. } => format!("FIFO {}", text(path)),
        FileKindV1::Eventfd { .. } => "eventfd".into(),
        FileKindV1::Epoll { targets } => format!("epoll of {} descriptors", targets.len()),
        FileKindV1::Timerfd { .. } => "timerfd".into(),
        FileKindV1::Signalfd { .. } => "signalfd".into(),
        FileKindV1::Inotify { watches, .. } => format!("inotify with {} watches", watches.len()),
        FileKindV1::Memfd { shmem } => format!("memfd, memory object {}", shmem.0),
        FileKindV1::Socket(socket) => describe_socket(socket),
        FileKindV1::Pidfd { pid: ..=0, .. } => "pidfd of a process that has ended".into(),
        FileKindV1::Pidfd { pid, .. } => format!("pidfd of process {pid}"),
        FileKindV1::Stdio { was, .. } => format!("{was} (becomes the restoring command's)"),
        FileKindV1::Terminal(end) => describe_terminal(end),
        FileKindV1::Mqueue(queue) => format!("message queue /{}", text(&queue.name)),
        FileKindV1::Namespace { pid, name } => format!("namespace {name} of process {pid}"),
        FileKindV1::Fanotify { marks, .. } => format!("fanotify with {} marks", marks.len()),
        FileKindV1::BpfMap(map) => format!("BPF map of {} entries at most", map.max_entries),
        FileKindV1::Tun(tun) => match &tun.queue {
            Some(queue) => format!("queue of interface {}", queue.interface.name),
            None => text(&tun.path),
        },
        FileKindV1::Userfaultfd(record) => {
            format!("userfaultfd of process {}, {} mappings", record.mm.0, record.areas.len())
        }
        FileKindV1::IoUring(ring) => format!("io_uring of {} entries", ring.submissions),
    };
    File { fd, what, socket: matches!(kind, FileKindV1::Socket(_)) }
}

fn describe_terminal(end: &TerminalEndV1) -> String {
    let path = text(&end.path);
    match end.side {
        TerminalSideV1::Master { index } => format!("master of terminal /dev/pts/{index}"),
        TerminalSideV1::Slave { .. } => path,
        TerminalSideV1::HungUp => format!("{path} (hung up)"),
        TerminalSideV1::Outside { .. } => format!("{path} (becomes the restoring command's)"),
    }
}

fn describe_socket(socket: &SocketV1) -> String {
    let family = match (socket.domain, socket.kind) {
        (libc::AF_UNIX, _) => "UNIX",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => "TCP",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW) => "raw",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => match socket.protocol {
            libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => "ICMP",
            _ => "UDP",
        },
        (libc::AF_NETLINK, _) => "netlink",
        (libc::AF_PACKET, _) => "packet",
        _ => "other",
    };
    let state = match &socket.state {
        SocketStateV1::Unconnected => "unconnected".into(),
        SocketStateV1::Listening { .. } => match socket.internet.waiting {
            0 => "listening".into(),
            waiting => format!("listening ({waiting} connections that waited to be accepted are not saved)"),
        },
        SocketStateV1::Connected { peer_inode, .. } => format!("connected to socket {peer_inode} of the job"),
        SocketStateV1::PeerClosed { .. } => "peer has closed".into(),
        SocketStateV1::ConnectedWithin { .. } => "connected within the job".to_owned(),
        SocketStateV1::ConnectedTo { address: peer } => format!("connected to {}", address(peer)),
        SocketStateV1::Tcp(tcp) => connection(tcp),
        SocketStateV1::Packet(packet) if packet.interface.is_empty() => "at all interfaces".into(),
        SocketStateV1::Packet(packet) => format!("at interface {}", text(&packet.interface)),
        SocketStateV1::InBacklog { .. } => "waiting to be accepted".into(),
    };
    let local = if socket.local.is_empty() { String::new() } else { format!(" {}", address(&socket.local)) };
    let groups = match socket.internet.memberships.len() {
        0 => String::new(),
        groups => format!(", in {groups} multicast groups"),
    };
    let unread = match socket.internet.datagrams.len() {
        0 => String::new(),
        unread => format!(", {unread} unread datagrams"),
    };
    format!("{family} socket {}{local}, {state}{groups}{unread}", socket.inode)
}

fn connection(tcp: &TcpConnectionV1) -> String {
    let peer = if tcp.peer.is_empty() { "the other side".into() } else { address(&tcp.peer) };
    match tcp.far_end {
        FarEndV1::Job { inode } => format!("connected to {peer}, socket {inode} of the job"),
        FarEndV1::Waiting { listener_inode } => {
            format!("connected to {peer}, waiting to be accepted from socket {listener_inode} of the job")
        }
        FarEndV1::Held => format!("connected to {peer}, held still"),
        FarEndV1::Lost => format!("connection with {peer} lost"),
    }
}

/// A `sockaddr` as people write it.
fn address(bytes: &[u8]) -> String {
    let Some((family, rest)) = bytes.split_first_chunk::<2>() else { return "an unnamed socket".into() };
    let port = || rest.first_chunk::<2>().map_or(0, |port| u16::from_be_bytes(*port));
    match (i32::from(u16::from_ne_bytes(*family)), rest) {
        (libc::AF_UNIX, [0, name @ ..]) => format!("@{}", text(name)),
        (libc::AF_UNIX, path) => text(path.split(|byte| *byte == 0).next().unwrap_or_default()),
        (libc::AF_INET, [_, _, a, b, c, d, ..]) => format!("{}:{}", Ipv4Addr::new(*a, *b, *c, *d), port()),
        (libc::AF_INET6, rest) => match rest.get(6..).and_then(|rest| rest.first_chunk::<16>()) {
            Some(ip) => format!("[{}]:{}", Ipv6Addr::from(*ip), port()),
            None => "an incomplete address".into(),
        },
        (family, _) => format!("an address of family {family}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses() {
        assert_eq!(address(&[2, 0, 0x18, 0xeb, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), "127.0.0.1:6379");
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend([0; 15]);
        v6.extend([1, 0, 0, 0, 0]);
        assert_eq!(address(&v6), "[::1]:80");
        assert_eq!(address(b"\x01\x00/run/x\0"), "/run/x");
        assert_eq!(address(b"\x01\x00\0abstract"), "@abstract");
        assert_eq!(address(b""), "an unnamed socket");
    }
}
