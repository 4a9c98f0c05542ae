//! The TCP connections of a job: where their other ends are, and all of them read as of one moment.
use super::journal::Journal;
use super::tcp::{self, Read};
use crate::connections::{Held, OutsideConnections};
use crate::error::{CaptureError, CaptureResult};
use crate::files::index::{FileIndex, FoundFile};
use ckpt_image::record::{FarEndV1, OpenFileId, TcpConnectionV1};
use ckpt_sys::inet_diag::{self, InetSocket};
use ckpt_sys::{SysError, sockaddr, socket, tcp_state};
use nix::errno::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Times that all connections are read until both ends of each fit together.
const ATTEMPTS: usize = 20;
const TCP_ULP: i32 = 31;

/// The connections of a job.
#[derive(Debug, Default)]
pub(in crate::files) struct Connections {
    by_file: HashMap<OpenFileId, TcpConnectionV1>,
    /// Connections of the job's own that wait at a listener, by its inode.
    own_waiting: HashMap<u64, u32>,
    /// Those to the outside, in words.
    outside: Vec<String>,
}

/// A socket with a connection.
struct Candidate {
    file: Arc<FoundFile>,
    state: u8,
    local: SocketAddr,
    peer: SocketAddr,
    /// As getpeername(2) gives it.
    peer_name: Vec<u8>,
    far_end: FarEndV1,
    /// Network namespace, as [`FileIndex::net_of`] has it.
    net: Option<usize>,
}

/// An end of a connection: its network namespace and its inode.
type End = (Option<usize>, u64);

impl Candidate {
    fn is_outside(&self) -> bool {
        self.far_end == FarEndV1::Lost && tcp_state::is_connected(self.state)
    }

    /// Further network namespaces of the job go with it.
    fn can_be_held(&self) -> bool {
        self.is_outside() && self.net.is_none()
    }

    fn remark(&self, index: &FileIndex) -> String {
        format!(
            "pid {}: {} is connected to {}, which is outside the job: the connection goes on if the job ends with the checkpoint (ckpt save --stop) and comes back on this machine; else it is found closed (ckpt save --tcp close|refuse and ckpt restore --tcp reset|force|close choose otherwise)",
            index.holder(&self.file),
            index.name(&self.file),
            self.peer
        )
    }
}

impl Connections {
    /// The connection of a file.
    pub(super) fn get(&self, file: &FoundFile) -> Option<&TcpConnectionV1> {
        self.by_file.get(&file.id)
    }

    /// How many of the connections that wait at a listener are the job's own.
    pub(super) fn own_waiting(&self, listener_inode: u64) -> u32 {
        self.own_waiting.get(&listener_inode).copied().unwrap_or(0)
    }

    /// The connections to the outside, and what becomes of them.
    pub(in crate::files) fn outside(&self) -> &[String] {
        &self.outside
    }

    /// Finds all connections; with `held` and a journal, reads them, and holds those to the outside still if the job is to end.
    pub(in crate::files) fn look_at(
        index: &FileIndex,
        held: Option<(&mut Held, &Journal<'_>)>,
    ) -> CaptureResult<Self> {
        let mut connections = Self::default();
        let mut candidates = find(index)?;
        if candidates.is_empty() {
            return Ok(connections);
        }
        find_far_ends(index, &mut candidates, &mut connections)?;
        let Some((held, journal)) = held else {
            connections.outside = candidates
                .iter()
                .filter(|found| found.is_outside())
                .map(|found| found.remark(index))
                .collect();
            return Ok(connections);
        };
        if held.outside == OutsideConnections::Refuse
            && let Some(outside) = candidates.iter().find(|candidate| candidate.far_end == FarEndV1::Lost)
        {
            return Err(CaptureError::unsupported(
                index.holder(&outside.file),
                index.name(&outside.file),
                format!("it is connected to {}, which is outside the job", outside.peer),
                "Close the connection, or save with --tcp keep or --tcp close",
            ));
        }
        hold(&mut candidates, held)?;
        for _ in 0..ATTEMPTS {
            connections.by_file = read(index, &candidates, journal)?;
            if connections.all_fit(&candidates) {
                return Ok(connections);
            }
        }
        Err(SysError::new("read", "TCP connections within the job that do not come to rest", Errno::EAGAIN)
            .into())
    }

    fn all_fit(&self, candidates: &[Candidate]) -> bool {
        let by_inode: HashMap<u64, &TcpConnectionV1> = candidates
            .iter()
            .filter_map(|candidate| Some((candidate.file.meta.ino(), self.by_file.get(&candidate.file.id)?)))
            .collect();
        by_inode.values().all(|connection| match connection.far_end {
            FarEndV1::Job { inode } => by_inode.get(&inode).is_none_or(|peer| tcp::fit(connection, peer)),
            _ => true,
        })
    }
}

/// All TCP sockets that have a connection or are making one.
fn find(index: &FileIndex) -> CaptureResult<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for file in index.files() {
        if !is_tcp(file)? {
            continue;
        }
        let fd = file.dup();
        let state = tcp_state::of(fd)?;
        let connected = tcp_state::is_connected(state);
        if !connected && state != tcp_state::SYN_SENT {
            continue;
        }
        let peer_name = match socket::peer_name(fd)? {
            Some(name) => name,
            None if state == tcp_state::SYN_SENT => {
                index.in_net_of(file, || goal(file))?.map(sockaddr::encode).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let local = sockaddr::decode(&socket::local_name(fd)?).map(plain);
        if let (Some(local), Some(peer)) = (local, sockaddr::decode(&peer_name).map(plain)) {
            let (file, net, far_end) = (Arc::clone(file), index.net_of(file)?, FarEndV1::Lost);
            candidates.push(Candidate { file, state, local, peer, peer_name, far_end, net });
        }
    }
    Ok(candidates)
}

/// Where a socket that is still connecting connects to: getpeername(2) does not tell.
fn goal(file: &FoundFile) -> CaptureResult<Option<SocketAddr>> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let sockets = inet_diag::sockets(family, libc::IPPROTO_TCP, 0)?;
        if let Some(found) = sockets.iter().find(|socket| u64::from(socket.inode) == file.meta.ino()) {
            let ip = sockaddr::ip(found.peer_address());
            return Ok(ip.map(|ip| SocketAddr::new(ip, found.peer_port())));
        }
    }
    Ok(None)
}

fn find_far_ends(
    index: &FileIndex,
    candidates: &mut [Candidate],
    connections: &mut Connections,
) -> CaptureResult<()> {
    let mut ends: HashMap<(SocketAddr, SocketAddr), Vec<End>> = HashMap::new();
    for end in &*candidates {
        ends.entry((end.local, end.peer)).or_default().push((end.net, end.file.meta.ino()));
    }
    let mut all: HashMap<Option<usize>, Vec<InetSocket>> = HashMap::new();
    for candidate in candidates {
        let others = ends.get(&(candidate.peer, candidate.local)).map_or(&[][..], Vec::as_slice);
        if let Some(inode) = far_end(candidate, others) {
            candidate.far_end = FarEndV1::Job { inode };
            continue;
        }
        if candidate.state == tcp_state::SYN_SENT {
            continue;
        }
        let all = match all.entry(candidate.net) {
            Entry::Occupied(all) => all.into_mut(),
            Entry::Vacant(all) => all.insert(index.in_net_of(&candidate.file, all_sockets)?),
        };
        let Some((child, listener)) = waiting_at(index, candidate, all)? else { continue };
        if child.receive_queue > 0 {
            return Err(CaptureError::unsupported(
                index.holder(&candidate.file),
                index.name(&candidate.file),
                format!(
                    "it has sent data to {}, where the job has not accepted the connection yet",
                    candidate.peer
                ),
                "Try again: this state does not last",
            ));
        }
        candidate.far_end = FarEndV1::Waiting { listener_inode: listener };
        *connections.own_waiting.entry(listener).or_default() += 1;
    }
    Ok(())
}

/// The inode of a connection's other end, one of those that have its addresses the other way round, by network namespace: that of its own, else the
/// only one of another, which a network may lead to.
fn far_end(candidate: &Candidate, others: &[End]) -> Option<u64> {
    let near = others.iter().find(|(net, _)| *net == candidate.net);
    let far = if candidate.peer.ip().is_loopback() { &[] } else { others };
    match (near, far) {
        (Some((_, inode)), _) | (None, [(_, inode)]) => Some(*inode),
        _ => None,
    }
}

fn all_sockets() -> CaptureResult<Vec<InetSocket>> {
    let mut all = inet_diag::sockets(libc::AF_INET, libc::IPPROTO_TCP, 0)?;
    all.extend(inet_diag::sockets(libc::AF_INET6, libc::IPPROTO_TCP, 0)?);
    Ok(all)
}

/// The other end, which nobody has accepted, and the inode of the job's listener that it waits at.
fn waiting_at<'a>(
    index: &FileIndex,
    candidate: &Candidate,
    all: &'a [InetSocket],
) -> CaptureResult<Option<(&'a InetSocket, u64)>> {
    let name = |ip: &[u8], port| sockaddr::ip(ip).map(|ip| plain(SocketAddr::new(ip, port)));
    let is_far_end = |socket: &&InetSocket| {
        let open = matches!(socket.state, tcp_state::ESTABLISHED | tcp_state::CLOSE_WAIT);
        open && socket.inode == 0
            && name(socket.local_address(), socket.local_port()) == Some(candidate.peer)
            && name(socket.peer_address(), socket.peer_port()) == Some(candidate.local)
    };
    let Some(child) = all.iter().find(is_far_end) else { return Ok(None) };
    for socket in all.iter().filter(|socket| socket.state == tcp_state::LISTEN) {
        let at = name(socket.local_address(), socket.local_port());
        let hears = at.is_some_and(|at| {
            at.port() == candidate.peer.port() && (at.ip().is_unspecified() || at.ip() == candidate.peer.ip())
        });
        if hears && index.socket(u64::from(socket.inode)).is_some() {
            return Ok(Some((child, u64::from(socket.inode))));
        }
    }
    Ok(None)
}

/// From now on nothing arrives for connections to the outside.
fn hold(candidates: &mut [Candidate], held: &mut Held) -> CaptureResult<()> {
    let mut tuples = Vec::new();
    for candidate in candidates.iter() {
        if candidate.can_be_held() {
            tuples.push((candidate.local, candidate.peer));
        }
        held.remember(candidate.file.dup())?;
    }
    if held.hold(tuples) {
        for candidate in candidates {
            if candidate.can_be_held() {
                candidate.far_end = FarEndV1::Held;
            }
        }
    }
    Ok(())
}

fn read(
    index: &FileIndex,
    candidates: &[Candidate],
    journal: &Journal<'_>,
) -> CaptureResult<HashMap<OpenFileId, TcpConnectionV1>> {
    let mut by_file = HashMap::new();
    for candidate in candidates {
        let (file, fd) = (&candidate.file, candidate.file.dup());
        let refuse = |reason: &str| {
            let remedy = "Try again, or close the connection before saving";
            Err(CaptureError::unsupported(
                index.holder(file),
                index.name(file),
                format!("{reason} ({})", candidate.peer),
                remedy,
            ))
        };
        let mut connection = if candidate.state == tcp_state::SYN_SENT {
            tcp::lost(candidate.state, candidate.peer_name.clone(), Vec::new())
        } else if socket::option(fd, libc::IPPROTO_TCP, TCP_ULP, 16)?.is_some_and(|ulp| !ulp.is_empty()) {
            return refuse(
                "its data goes through another protocol in the kernel (TCP_ULP), which cannot be saved yet",
            );
        } else {
            match read_one(file, &candidate.peer_name, journal)? {
                Some(Read { privileged: false, .. }) if matches!(candidate.far_end, FarEndV1::Job { .. }) => {
                    return Err(CaptureError::unsupported(
                        index.holder(file),
                        index.name(file),
                        format!(
                            "it is a TCP connection to {} within the job, and to save both ends takes TCP_REPAIR",
                            candidate.peer
                        ),
                        "Run ckpt as root or with CAP_NET_ADMIN, or let the program use UNIX sockets",
                    ));
                }
                Some(Read { incomplete: true, .. }) => {
                    return refuse("urgent data waits in it, which cannot be saved yet");
                }
                Some(read) => read.connection,
                // It ended: what is left of it is read as a socket without a connection.
                None => continue,
            }
        };
        connection.far_end = candidate.far_end;
        by_file.insert(file.id, connection);
    }
    Ok(by_file)
}

/// Without the privilege for TCP_REPAIR, what has arrived is all that can be read.
fn read_one(file: &FoundFile, peer: &[u8], journal: &Journal<'_>) -> CaptureResult<Option<Read>> {
    let fd = file.dup();
    match tcp::read(file, peer, journal) {
        Ok(read) => Ok(read),
        Err(CaptureError::Sys(error)) if error.errno() == Some(Errno::EPERM) => {
            let connection = tcp::lost(tcp_state::of(fd)?, peer.to_vec(), super::inet::arrived(fd));
            Ok(Some(Read { connection, incomplete: false, privileged: false }))
        }
        Err(error) => Err(error),
    }
}

fn is_tcp(file: &FoundFile) -> CaptureResult<bool> {
    if file.meta.mode() & libc::S_IFMT != libc::S_IFSOCK || !file.link.starts_with(b"socket:[") {
        return Ok(false);
    }
    let int = |name| socket::int_option(file.dup(), libc::SOL_SOCKET, name);
    let inet = matches!(int(libc::SO_DOMAIN)?, Some(libc::AF_INET | libc::AF_INET6));
    Ok(inet && int(libc::SO_PROTOCOL)? == Some(libc::IPPROTO_TCP) && int(libc::SO_ACCEPTCONN)? == Some(0))
}

/// In one form, whatever socket tells it.
fn plain(address: SocketAddr) -> SocketAddr {
    let mut address = sockaddr::unmapped(address);
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_scope_id(0);
        v6.set_flowinfo(0);
    }
    address
}
