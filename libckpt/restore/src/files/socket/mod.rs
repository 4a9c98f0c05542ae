//! Sockets.
mod buffer;
mod connections;
mod datagrams;
mod filter;
mod inet;
mod multicast;
mod netlink;
mod options;
mod packet;
mod packet_ring;
mod packet_socket;
mod tcp;
mod unix;
mod unix_ghost;
mod unix_name;
mod unix_queue;

pub(crate) use connections::Connections;
pub(super) use unix_ghost::GhostNames;

use super::Maker;
use crate::error::RestoreResult;
use ckpt_image::record::{FileKindV1, OpenFileId, OpenFileV1, SocketV1};
use std::os::fd::BorrowedFd;

/// Makes all sockets.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let sockets: Vec<(OpenFileId, &SocketV1)> = files
        .iter()
        .filter_map(|file| match &file.kind {
            FileKindV1::Socket(socket) => Some((file.id, socket.as_ref())),
            _ => None,
        })
        .collect();
    let of = |families: &[i32]| -> Vec<(OpenFileId, &SocketV1)> {
        sockets.iter().filter(|(_, socket)| families.contains(&socket.domain)).copied().collect()
    };
    let inet = of(&[libc::AF_INET, libc::AF_INET6]);
    inet::make_all(maker, &inet)?;
    connections::make_all(maker, &inet)?;
    let local = of(&[libc::AF_UNIX]);
    unix::make_all(maker, &local)?;
    netlink::make_all(maker, &of(&[libc::AF_NETLINK]))?;
    packet_socket::make_all(maker, &of(&[libc::AF_PACKET]))?;
    for (id, socket) in inet.into_iter().chain(local) {
        filter::attach(maker.made(id)?, socket)?;
    }
    for (id, socket) in sockets {
        own(maker.made(id)?, socket.owner);
    }
    Ok(())
}

/// Gives the socket's inode its owner. Without privilege it keeps ours, which is the same then.
fn own(fd: BorrowedFd<'_>, owner: (u32, u32)) {
    if std::os::unix::fs::fchown(fd, Some(owner.0), Some(owner.1)).is_err() {
        tracing::debug!(?owner, "a socket keeps our owner");
    }
}
