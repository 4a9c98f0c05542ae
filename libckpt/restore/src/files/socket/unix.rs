//! AF_UNIX sockets. The process itself makes pairs, connects and listens: by that the kernel tells who is at the other end
//! (SO_PEERCRED).
use super::unix_ghost::GhostNames;
use super::unix_queue::{self, Widow};
use super::{options, unix_name};
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use crate::files::common::show;
use crate::namespaces::Further;
use ckpt_image::record::{OpenFileId, SocketStateV1, SocketV1};
use ckpt_sys::{SysError, pidfd, socket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

type Sockets<'a> = [(OpenFileId, &'a SocketV1)];

/// Makes all AF_UNIX sockets.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, sockets: &Sockets<'_>) -> RestoreResult<()> {
    let further = maker.further;
    for (id, record) in sockets {
        let made = match &record.state {
            SocketStateV1::Listening { backlog } => {
                further.in_net_of(*id, || make_listener(maker, *id, record, *backlog))?
            }
            SocketStateV1::Unconnected
            | SocketStateV1::ConnectedTo { .. }
            | SocketStateV1::ConnectedWithin { .. } => {
                further.in_net_of(*id, || make_bound(maker, record))?
            }
            _ => continue,
        };
        maker.made.insert(*id, made);
    }
    let mut widows = Vec::new();
    for (id, record) in sockets {
        match &record.state {
            SocketStateV1::Connected { peer_inode, peer_creds } => {
                make_connected(maker, sockets, (*id, record), *peer_inode, peer_creds.0)?
            }
            SocketStateV1::PeerClosed { reset } => {
                let site = maker.holder(*id);
                let (made, peer) = remote_pair(maker, site, record.kind)?;
                options::all(made.as_fd(), record)?;
                match listener_named(further, sockets, (*id, record)) {
                    None => unix_name::bind(maker, made.as_fd(), record)?,
                    Some(_) if record.local.get(2) == Some(&0) => {}
                    Some(_) => unix_name::bind_to_ghost(maker, made.as_fd(), record)?,
                }
                widows.push(Widow { inode: record.inode, peer, reset: *reset });
                maker.made.insert(*id, made);
            }
            _ => {}
        }
    }
    // A connection that waits to be accepted comes last: nothing that is accepted here is taken for it.
    for (id, record) in sockets {
        if let SocketStateV1::InBacklog { listener_inode } = record.state {
            let client = further.in_net_of(*id, || make_bound(maker, record))?;
            let site = maker.holder(*id);
            connect_to_listener(maker, sockets, site, client.as_fd(), listener_inode)?;
            maker.made.insert(*id, client);
        }
    }
    unix_queue::fill(maker, sockets, widows)?;
    for (id, record) in sockets {
        if let SocketStateV1::ConnectedTo { address } = &record.state {
            let named = |other: &SocketV1| !address.is_empty() && other.local == *address;
            let mut named = sockets.iter().filter(|(_, other)| named(other));
            let near = named.clone().find(|(other, _)| further.share_net(*other, *id));
            // An abstract name is of one network namespace.
            let far = if address.get(2) == Some(&0) { None } else { named.next() };
            let name = match near.or(far) {
                Some((peer, other)) => unix_name::reachable(maker, maker.made(*peer)?, other)?,
                None => address.clone(),
            };
            if record.kind == libc::SOCK_DGRAM {
                connect_by_name(maker.made(*id)?, &name)?;
            } else {
                reconnect(maker, *id, &name)?;
            }
        }
    }
    connect_within(maker, sockets)?;
    maker.ghost_names = GhostNames::default();
    for (id, record) in sockets {
        shut_down(maker.made(*id)?, record)?;
    }
    Ok(())
}

/// Connects datagram sockets to others of the job: each before that to which it is connected, as a socket that is connected takes nobody else.
fn connect_within(maker: &Maker<'_, '_>, sockets: &Sockets<'_>) -> RestoreResult<()> {
    let peer = |record: &SocketV1| match record.state {
        SocketStateV1::ConnectedWithin { peer_inode } => Some(peer_inode),
        _ => None,
    };
    let mut waiting: Vec<_> = sockets.iter().filter(|(_, record)| peer(record).is_some()).collect();
    while !waiting.is_empty() {
        let is_free =
            |inode: u64| waiting.iter().all(|(_, other)| other.inode == inode || peer(other) != Some(inode));
        let at = waiting.iter().position(|(_, record)| is_free(record.inode)).unwrap_or(0);
        let (id, record) = waiting.swap_remove(at);
        let target = sockets.iter().find(|(_, other)| Some(other.inode) == peer(record));
        let missing = || RestoreError::Inconsistent {
            what: format!("the peer of socket {} is not in it", record.inode),
        };
        let (target, other) = target.ok_or_else(missing)?;
        let name = unix_name::reachable(maker, maker.made(*target)?, other)?;
        connect_by_name(maker.made(*id)?, &name)?;
    }
    Ok(())
}

fn shut_down(fd: BorrowedFd<'_>, record: &SocketV1) -> RestoreResult<()> {
    let how = match record.shutdown & 3 {
        // The end of a peer has shut down both directions.
        _ if matches!(record.state, SocketStateV1::PeerClosed { .. }) => return Ok(()),
        1 => libc::SHUT_RD,
        2 => libc::SHUT_WR,
        3 => libc::SHUT_RDWR,
        _ => return Ok(()),
    };
    match socket::shutdown(fd, how) {
        Err(error) if error.errno() != Some(nix::errno::Errno::ENOTCONN) => Err(error.into()),
        _ => Ok(()),
    }
}

fn make_bound(maker: &mut Maker<'_, '_>, record: &SocketV1) -> RestoreResult<OwnedFd> {
    let made = socket::new(libc::AF_UNIX, record.kind, 0)?;
    options::all(made.as_fd(), record)?;
    unix_name::bind(maker, made.as_fd(), record)?;
    Ok(made)
}

fn make_listener(
    maker: &mut Maker<'_, '_>,
    id: OpenFileId,
    record: &SocketV1,
    backlog: u32,
) -> RestoreResult<OwnedFd> {
    let site = maker.holder(id);
    let made = make_bound(maker, record)?;
    maker.in_process(site, made.as_fd(), |builder, number| {
        let args = [number, u64::from(backlog)];
        builder.call("listen", &show(&record.local), libc::SYS_listen, &args).map(drop)
    })?;
    Ok(made)
}

/// The listener that accepted a socket: it has its name and its network namespace from it.
fn listener_named<'a>(
    further: &Further,
    sockets: &Sockets<'a>,
    (id, record): (OpenFileId, &SocketV1),
) -> Option<(OpenFileId, &'a SocketV1)> {
    let listens = |other: &SocketV1| matches!(other.state, SocketStateV1::Listening { .. });
    let is_like = |other: &SocketV1| other.local == record.local && other.kind == record.kind;
    let found = sockets.iter().find(|(listener, other)| {
        !record.local.is_empty() && listens(other) && is_like(other) && further.share_net(*listener, id)
    });
    found.copied()
}

/// Makes both ends of a connection, the first time that one of them comes up.
fn make_connected(
    maker: &mut Maker<'_, '_>,
    sockets: &Sockets<'_>,
    (id, record): (OpenFileId, &SocketV1),
    peer_inode: u64,
    peer_pid: i32,
) -> RestoreResult<()> {
    if maker.made.contains_key(&id) {
        return Ok(());
    }
    let missing = || RestoreError::Inconsistent { what: format!("socket {peer_inode} is not in it") };
    let (peer_id, peer) = *sockets.iter().find(|(_, other)| other.inode == peer_inode).ok_or_else(missing)?;
    // The one that was accepted has its listener's name.
    let further = maker.further;
    let accepted = listener_named(further, sockets, (id, record)).map(|listener| (listener, true));
    let other_way = || listener_named(further, sockets, (peer_id, peer)).map(|listener| (listener, false));
    let accepted = accepted.or_else(other_way);
    let (first, second) = match accepted {
        Some(((listener_id, listener), first_is_server)) => {
            let (client_id, client_record) = if first_is_server { (peer_id, peer) } else { (id, record) };
            let client = further.in_net_of(client_id, || make_bound(maker, client_record))?;
            // The client's process is the one that the server sees.
            let pid = match &peer.state {
                SocketStateV1::Connected { peer_creds, .. } if !first_is_server => peer_creds.0,
                _ => peer_pid,
            };
            let site = maker.site_of(pid);
            connect_to_listener(maker, sockets, site, client.as_fd(), listener.inode)?;
            let server = accept_own(maker, site, listener_id)?;
            if first_is_server { (server, client) } else { (client, server) }
        }
        None => {
            let pair = remote_pair(maker, maker.site_of(peer_pid), record.kind)?;
            unix_name::bind(maker, pair.0.as_fd(), record)?;
            unix_name::bind(maker, pair.1.as_fd(), peer)?;
            pair
        }
    };
    options::all(first.as_fd(), record)?;
    options::all(second.as_fd(), peer)?;
    maker.made.insert(id, first);
    maker.made.insert(peer_id, second);
    Ok(())
}

/// A pair that the process of a site makes.
fn remote_pair(maker: &mut Maker<'_, '_>, site: usize, kind: i32) -> RestoreResult<(OwnedFd, OwnedFd)> {
    let builder = &mut *maker.sites[site].builder;
    let at = builder.remote.reserve(8)?;
    let kind = u64::from((kind | libc::SOCK_CLOEXEC).unsigned_abs());
    let args = [u64::from(libc::AF_UNIX.unsigned_abs()), kind, 0, at.get()];
    builder.call("socketpair", &"a pair of sockets", libc::SYS_socketpair, &args)?;
    let both = builder.remote.memory().read_u64(at)?;
    let numbers = [both & u64::from(u32::MAX), both >> 32];
    let process = pidfd::open_task(builder.remote.pid())?;
    let get = |number: u64| pidfd::getfd(process.as_fd(), i32::try_from(number).unwrap_or(-1));
    let pair = (get(numbers[0])?, get(numbers[1])?);
    for number in numbers {
        builder.call("close", &format!("fd {number}"), libc::SYS_close, &[number])?;
    }
    Ok(pair)
}

fn connect_to_listener(
    maker: &mut Maker<'_, '_>,
    sockets: &Sockets<'_>,
    site: usize,
    client: BorrowedFd<'_>,
    listener_inode: u64,
) -> RestoreResult<()> {
    let missing = || RestoreError::Inconsistent { what: format!("listener {listener_inode} is not in it") };
    let (id, listener) =
        *sockets.iter().find(|(_, other)| other.inode == listener_inode).ok_or_else(missing)?;
    let name = unix_name::reachable(maker, maker.made(id)?, listener)?;
    let len = u64::try_from(name.len()).unwrap_or(0);
    maker.in_process(site, client, |builder, number| {
        let at = builder.place(&name)?;
        let args = [number, at.get(), len];
        builder.call("connect", &show(&listener.local), libc::SYS_connect, &args).map(drop)
    })
}

/// Accepts the connection that the process of a site has just made. Others, by processes that found the listener already,
/// are turned away.
fn accept_own(maker: &Maker<'_, '_>, site: usize, listener: OpenFileId) -> RestoreResult<OwnedFd> {
    loop {
        let server = socket::accept(maker.made(listener)?)?;
        let creds =
            socket::option(server.as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, 12)?.unwrap_or_default();
        let pid = creds.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
        if pid == Some(maker.sites[site].builder.remote.pid()) {
            return Ok(server);
        }
    }
}

/// Connects a socket anew to a listener outside the job, which sees the process by its credentials.
fn reconnect(maker: &mut Maker<'_, '_>, id: OpenFileId, address: &[u8]) -> RestoreResult<()> {
    let site = maker.holder(id);
    let client =
        maker.made(id)?.try_clone_to_owned().map_err(|error| SysError::new("dup", "a socket", error))?;
    let len = u64::try_from(address.len()).unwrap_or(0);
    let outcome = maker.in_process(site, client.as_fd(), |builder, number| {
        let at = builder.place(address)?;
        Ok(builder.remote.syscall(libc::SYS_connect, &[number, at.get(), len])?)
    })?;
    outcome.map(drop).map_err(|errno| unreachable(address, &errno))
}

fn connect_by_name(fd: BorrowedFd<'_>, address: &[u8]) -> RestoreResult<()> {
    socket::connect(fd, address).map_err(|error| unreachable(address, &error.source))
}

fn unreachable(address: &[u8], cause: &dyn std::fmt::Display) -> RestoreError {
    RestoreError::File {
        path: show(address.get(2..).unwrap_or_default()).trim_matches('\0').to_owned(),
        reason: format!("a socket of the program is connected to it, which is not possible now: {cause}"),
        remedy: "Start the service that listens there and restore again".into(),
    }
}
