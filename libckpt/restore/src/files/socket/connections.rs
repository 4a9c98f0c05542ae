//! The TCP connections of a job: which of them come back, and how those that do go on together.
use super::packet::{Envelope, Postman};
use super::tcp::{self, Start};
use super::{inet, options};
use crate::connections::{OutsideConnections, filter_name};
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use ckpt_image::record::{FarEndV1, OpenFileId, SocketStateV1, SocketV1, TcpConnectionV1};
use ckpt_sys::{SysError, SysResult, nftables, sockaddr, socket, tcp_state};
use nix::errno::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the two ends may take to hear of each other.
const DEADLINE: Duration = Duration::from_secs(5);

/// How a connection comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it was, with the other end, which has this inode.
    Within(u64),
    /// As it was, towards the outside.
    Outside,
    /// Made anew: it was being made, or waited to be accepted.
    Anew,
    /// As one that the other side has ended.
    Ended,
}

/// A socket with a connection.
#[derive(Debug)]
struct Open {
    fd: OwnedFd,
    record: SocketV1,
    connection: TcpConnectionV1,
    way: Way,
    rest: Vec<u8>,
}

/// The connections that are made and go on when the job does. Dropped before, they end without a word.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Vec<Open>,
    /// The filter that holds connections to the outside still.
    filter: Option<String>,
}

/// Makes all connections.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, sockets: &[(OpenFileId, &SocketV1)]) -> RestoreResult<()> {
    let all: Vec<(OpenFileId, &SocketV1, &TcpConnectionV1)> = sockets
        .iter()
        .filter_map(|(id, record)| match &record.state {
            SocketStateV1::Tcp(connection) => Some((*id, *record, connection)),
            _ => None,
        })
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let by_inode: HashMap<u64, &TcpConnectionV1> =
        all.iter().map(|(_, record, connection)| (record.inode, *connection)).collect();
    let name = filter_name(&maker.image.manifest().id);
    let held =
        all.iter().any(|(.., connection)| connection.far_end == FarEndV1::Held) && nftables::exists(&name)?;
    let outside = maker.outside;
    let way = |connection: &TcpConnectionV1| way(connection, &by_inode, outside, held);
    maker.connections.filter = held.then_some(name);
    tell_of_lost(&all, &way);
    let further = maker.further;
    for (id, record, connection) in &all {
        if way(connection) != Way::Ended {
            further.in_net_of(*id, || {
                tcp::clear(record, connection);
                Ok(())
            })?;
        }
    }
    for (id, record, connection) in all {
        let way = way(connection);
        let (made, rest) = match way {
            Way::Ended => {
                let ended = further.in_net_of(id, || inet::make_ended(record, connection, outside))?;
                maker.made.insert(id, ended);
                continue;
            }
            Way::Anew => (further.in_net_of(id, || make_bound(record))?, connection.sent.clone()),
            Way::Within(_) | Way::Outside => {
                let peer = if let Way::Within(inode) = way { by_inode.get(&inode).copied() } else { None };
                let start = Start::of(connection, peer)?;
                let made = further.in_net_of(id, || tcp::make(record, connection, &start))?;
                (made, start.unsent.to_vec())
            }
        };
        let fd = made.try_clone().map_err(|error| SysError::new("dup", "a socket", error))?;
        let (record, connection) = (SocketV1::clone(record), connection.clone());
        maker.connections.open.push(Open { fd, record, connection, way, rest });
        maker.made.insert(id, made);
    }
    Ok(())
}

fn way(
    connection: &TcpConnectionV1,
    by_inode: &HashMap<u64, &TcpConnectionV1>,
    outside: OutsideConnections,
    held: bool,
) -> Way {
    let whole = tcp_state::is_connected(connection.state) && connection.mss != 0;
    match connection.far_end {
        _ if connection.state == tcp_state::SYN_SENT => Way::Anew,
        _ if !whole => Way::Ended,
        FarEndV1::Job { inode } if by_inode.contains_key(&inode) => Way::Within(inode),
        FarEndV1::Job { .. } => Way::Ended,
        FarEndV1::Waiting { .. } => Way::Anew,
        FarEndV1::Held if held && outside == OutsideConnections::Keep => Way::Outside,
        FarEndV1::Held | FarEndV1::Lost if outside == OutsideConnections::Force => Way::Outside,
        FarEndV1::Held | FarEndV1::Lost => Way::Ended,
    }
}

fn tell_of_lost(all: &[(OpenFileId, &SocketV1, &TcpConnectionV1)], way: &dyn Fn(&TcpConnectionV1) -> Way) {
    let lost = |connection: &TcpConnectionV1| {
        tcp_state::is_connected(connection.state) && way(connection) == Way::Ended
    };
    let lost: Vec<_> = all.iter().filter(|(.., connection)| lost(connection)).collect();
    if let Some((.., first)) = lost.first() {
        let with = sockaddr::show(&first.peer);
        tracing::warn!(with, more = lost.len() - 1, "TCP connections to the outside come back closed");
    }
}

/// A socket that connects when the job goes on.
fn make_bound(record: &SocketV1) -> RestoreResult<OwnedFd> {
    let made = socket::new(record.domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    options::before_bind(made.as_fd(), record)?;
    socket::set_int_option(made.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    socket::bind(made.as_fd(), &record.local)
        .map_err(|error| inet::refused(&record.local, "is bound", &error))?;
    options::all(made.as_fd(), record)?;
    Ok(made)
}

impl Connections {
    /// Lets the connections go on: the job is about to.
    ///
    /// # Errors
    /// What the kernel refuses; the connections of a job that does not go on are ended with it.
    pub(crate) fn go_on(self) -> RestoreResult<()> {
        // First of all, so that the other sides' answers arrive.
        if let Some(filter) = &self.filter {
            nftables::remove(filter)?;
        }
        let repaired = |open: &&Open| matches!(open.way, Way::Within(_) | Way::Outside);
        for open in self.open.iter().filter(repaired) {
            tcp::begin(open.fd.as_fd(), &open.record)?;
        }
        for open in &self.open {
            let fd = open.fd.as_fd();
            match open.way {
                Way::Anew => connect(open)?,
                Way::Outside if tcp_state::is_closed_by_peer(open.connection.state) => end_of_peer(open)?,
                _ => {}
            }
            let connecting = open.connection.state == tcp_state::SYN_SENT;
            if !connecting {
                tcp::send_rest(fd, &open.connection, &open.rest)?;
            }
            if open.record.shutdown & 1 != 0 {
                socket::shutdown(fd, libc::SHUT_RD)?;
            }
        }
        for open in self.open.iter().filter(repaired) {
            if tcp_state::is_closed_by_peer(open.connection.state) {
                wait(&format!("the end of {}", sockaddr::show(&open.connection.peer)), || {
                    Ok(socket::ready(open.fd.as_fd()) & libc::POLLRDHUP != 0)
                })?;
            }
        }
        Ok(())
    }
}

/// Connects to where it was connecting to, or where it waited to be accepted.
fn connect(open: &Open) -> RestoreResult<()> {
    let fd = open.fd.as_fd();
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK;
    let failed = |errno: Errno| RestoreError::from(SysError::new("fcntl", "a socket", errno));
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::F_GETFL).map_err(failed)?;
    let flags = nix::fcntl::OFlag::from_bits_retain(flags);
    let set = |flags| nix::fcntl::fcntl(fd, nix::fcntl::F_SETFL(flags)).map(drop).map_err(failed);
    set(flags | nonblocking)?;
    let outcome = socket::connect(fd, &open.connection.peer);
    set(flags)?;
    match outcome {
        Err(error) if error.errno() != Some(Errno::EINPROGRESS) => {
            return Err(inet::refused(&open.connection.peer, "connects", &error));
        }
        _ if open.connection.state == tcp_state::SYN_SENT => return Ok(()),
        _ => {}
    }
    wait(&format!("the connection to {}", sockaddr::show(&open.connection.peer)), || {
        Ok(tcp_state::of(fd)? != tcp_state::SYN_SENT)
    })
}

/// The other side, which has closed, will not say so again.
fn end_of_peer(open: &Open) -> RestoreResult<()> {
    let decode = |name: &[u8]| sockaddr::decode(name).map(sockaddr::unmapped);
    let (Some(from), Some(to)) = (decode(&open.connection.peer), decode(&open.record.local)) else {
        return Ok(());
    };
    let received = u32::try_from(open.connection.received.len()).unwrap_or(u32::MAX);
    let sequence = open.connection.receive_seq.wrapping_add(received);
    let scale = open.connection.window_scale.map_or(0, |(send, _)| send);
    let window = u16::try_from(open.connection.window[1] >> scale).unwrap_or(u16::MAX);
    let envelope = Envelope { from, to, hop_limit: None, traffic_class: 0 };
    Postman::default().fin(&envelope, sequence, open.connection.send_seq, window)
}

fn wait(what: &str, done: impl Fn() -> SysResult<bool>) -> RestoreResult<()> {
    let deadline = Instant::now() + DEADLINE;
    while !done()? {
        if Instant::now() > deadline {
            return Err(SysError::new("poll", what.to_owned(), Errno::ETIMEDOUT).into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
