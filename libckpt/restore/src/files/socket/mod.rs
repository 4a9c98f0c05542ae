//! Sockets.
mod buffer;
mod connections;
mod datagrams;
mod inet;
mod multicast;
mod options;
mod packet;
mod tcp;
mod unix;
mod unix_name;
mod unix_queue;

pub(crate) use connections::Connections;

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
    let (local, inet): (Vec<_>, Vec<_>) =
        sockets.into_iter().partition(|(_, socket)| socket.domain == libc::AF_UNIX);
    inet::make_all(maker, &inet)?;
    connections::make_all(maker, &inet)?;
    unix::make_all(maker, &local)?;
    for (id, socket) in inet.into_iter().chain(local) {
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
