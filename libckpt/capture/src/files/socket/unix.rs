//! AF_UNIX sockets.
use super::{filter, options, unix_file, unix_peer};
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{FileKindV1, SocketStateV1, SocketV1};
use ckpt_sys::unix_diag::UnixSocket;
use ckpt_sys::{SysError, descriptor, socket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

/// Saves an AF_UNIX socket.
pub(super) fn describe(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    let Some(diag) = context.unix.get(&record.inode).cloned() else {
        return Err(context.unsupported(
            file,
            "the kernel does not tell of it (unix_diag)",
            "Load the module unix_diag",
        ));
    };
    let state = match diag.peer {
        _ if diag.listening => Some(SocketStateV1::Listening { backlog: diag.send_queue }),
        None => Some(SocketStateV1::Unconnected),
        Some(0) => state_without_peer(context, file, &record)?,
        Some(peer) => state_with_peer(context, file, &record, peer)?,
    };
    let state = match state {
        Some(state) => state,
        None => {
            let peer = format!("socket:[{}]", diag.peer.unwrap_or(0));
            match unix_peer::describe(context, file, &record, peer.as_bytes())? {
                Ok(state) => state,
                Err(kind) => return Ok(kind),
            }
        }
    };
    // Their other ends have no inode any more.
    if diag.waiting.contains(&0) {
        return Err(context.unsupported(
            file,
            "a connection to it was closed by the other side before it was accepted",
            "Save again when the program has accepted it",
        ));
    }
    record.state = state;
    record.local = socket::local_name(file.dup())?;
    record.bound_file = unix_file::bound(
        context.index.further(),
        file.dup(),
        context.index.holder(file),
        &record.local,
        &diag,
    )?;
    record.options = options::read_options(file.dup(), &record)?;
    filter::add(context, file, &mut record)?;
    record.shutdown = u32::from(diag.shutdown);
    // What came over the old connection is no part of the new one.
    let anew = record.kind != libc::SOCK_DGRAM && matches!(record.state, SocketStateV1::ConnectedTo { .. });
    let queue = context.queues.remove(&file.id).unwrap_or_default();
    record.queue = if anew { Vec::new() } else { queue };
    if context.objects.is_some() && record.kind == libc::SOCK_DGRAM && has_hidden_messages(context, &record)?
    {
        return Err(context.unsupported(
            file,
            "an empty datagram waits in its queue, and the kernel shows one only once",
            "Try again when it has been read",
        ));
    }
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// The state of a socket whose peer has no descriptor anywhere: not accepted yet, or closed. None: it waits at a listener outside the job.
fn state_without_peer(
    context: &Context<'_>,
    file: &FoundFile,
    record: &SocketV1,
) -> CaptureResult<Option<SocketStateV1>> {
    let waits = |listener: &&UnixSocket| listener.waiting.contains(&record.inode);
    let Some(listener) = context.unix.values().find(waits) else {
        return Ok(Some(SocketStateV1::PeerClosed { reset: socket::ready(file.dup()) & libc::POLLERR != 0 }));
    };
    if context.index.socket(listener.inode).is_none() {
        return Ok(None);
    }
    // What was sent already is in a socket that nobody has a descriptor of.
    if descriptor::unsent_bytes(file.dup())? > 0 {
        return Err(context.unsupported(
            file,
            "it has sent data over a connection that the job has not accepted yet",
            "Try again: this state does not last",
        ));
    }
    Ok(Some(SocketStateV1::InBacklog { listener_inode: listener.inode }))
}

/// The state of a socket with a living peer; None: the peer is outside the job and cannot be reached by name.
fn state_with_peer(
    context: &Context<'_>,
    file: &FoundFile,
    record: &SocketV1,
    peer_inode: u64,
) -> CaptureResult<Option<SocketStateV1>> {
    let address = socket::peer_name(file.dup())?.unwrap_or_default();
    let within = context.index.socket(peer_inode).is_some();
    let mutual = context.unix.get(&peer_inode).is_some_and(|peer| peer.peer == Some(record.inode));
    if within && mutual && peer_inode != record.inode {
        let creds = socket::option(file.dup(), libc::SOL_SOCKET, libc::SO_PEERCRED, 12)?.unwrap_or_default();
        return Ok(Some(SocketStateV1::Connected { peer_inode, peer_creds: parse_creds(&creds) }));
    }
    if within && record.kind == libc::SOCK_DGRAM {
        return Ok(Some(SocketStateV1::ConnectedWithin { peer_inode }));
    }
    let by_name = record.kind == libc::SOCK_DGRAM && !address.is_empty();
    Ok(by_name.then_some(SocketStateV1::ConnectedTo { address }))
}

/// Whether the queue holds empty datagrams that have been peeked at before: a peek past the first message skips them. Told by what the
/// sender is charged for, beyond what the messages that are seen cost.
fn has_hidden_messages(context: &Context<'_>, record: &SocketV1) -> CaptureResult<bool> {
    let SocketStateV1::Connected { peer_inode, .. } = record.state else { return Ok(false) };
    let Some(sender) = context.index.socket(peer_inode) else { return Ok(false) };
    let charged = descriptor::unsent_bytes(sender.dup())?;
    if charged == 0 {
        return Ok(false);
    }
    let failed = |error| SysError::new("socketpair", "for a measurement", error);
    let cost = |message: &[u8]| -> CaptureResult<u32> {
        let (from, _to) = UnixDatagram::pair().map_err(failed)?;
        // Longer than a new socket sends: its cost is not known, nor is then what is more.
        let sent = socket::send(from.as_fd(), message, &socket::Attached::default());
        sent.map_or(Ok(u32::MAX), |_| Ok(descriptor::unsent_bytes(from.as_fd())?))
    };
    let empty = cost(b"")?;
    let mut seen: u32 = 0;
    for message in &record.queue {
        seen = seen.saturating_add(cost(&message.data)?);
    }
    let more = charged.saturating_sub(seen);
    Ok(more > 0 && empty > 0 && more % empty == 0)
}

/// Reads `struct ucred`.
fn parse_creds(bytes: &[u8]) -> (i32, u32, u32) {
    let word = |at: usize| -> u32 {
        bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
    };
    (word(0).cast_signed(), word(4), word(8))
}
