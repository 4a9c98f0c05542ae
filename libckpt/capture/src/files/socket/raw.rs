//! Raw sockets, and those that send ICMP echo requests ("ping sockets").
use super::{filter, multicast, options};
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{FileKindV1, SocketStateV1, SocketV1};
use ckpt_sys::{inet_table, sockaddr, socket};

/// Saves a raw socket or a ping socket. Packets that it has not read are left out: they may be lost on the way at any time.
pub(super) fn describe(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    let fd = file.dup();
    record.local = bound_name(&record, socket::local_name(fd)?);
    record.options = options::read_options(fd, &record)?;
    filter::add(context, file, &mut record)?;
    record.internet.memberships = multicast::memberships(context, file, &record)?;
    if let Some(address) = peer(file, &record)? {
        record.state = SocketStateV1::ConnectedTo { address };
    }
    if context.objects.is_some() && socket::ready(fd) & libc::POLLIN != 0 {
        let socket = context.index.name(file);
        tracing::warn!(socket, "packets that it has not read are not in the checkpoint");
    }
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// The name of a socket; empty when it is the one that every new socket has. Of a raw socket the port is the protocol.
fn bound_name(record: &SocketV1, name: Vec<u8>) -> Vec<u8> {
    let address = if record.domain == libc::AF_INET { 4..8 } else { 8..24 };
    let any = name.get(address).is_none_or(|address| address.iter().all(|byte| *byte == 0));
    let port = name.get(2..4).is_some_and(|port| port != [0, 0]);
    let bound = !any || record.kind != libc::SOCK_RAW && port;
    if bound { name } else { Vec::new() }
}

/// Where it is connected to. getpeername(2) tells only if there is a port.
fn peer(file: &FoundFile, record: &SocketV1) -> CaptureResult<Option<Vec<u8>>> {
    if let Some(name) = socket::peer_name(file.dup())?.filter(|name| !name.is_empty()) {
        return Ok(Some(name));
    }
    let table = match (record.kind, record.domain) {
        (libc::SOCK_RAW, libc::AF_INET) => "raw",
        (libc::SOCK_RAW, _) => "raw6",
        (_, libc::AF_INET) => "icmp",
        _ => "icmp6",
    };
    let peer = inet_table::peer(table, record.inode)?;
    Ok(peer.map(sockaddr::encode))
}
