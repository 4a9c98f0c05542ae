//! What waits in the queues of AF_UNIX sockets: sent again from where it came.
use super::unix_name;
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use ckpt_image::record::{DatagramV1, OpenFileId, SocketStateV1, SocketV1};
use ckpt_sys::socket::{self, Attached};
use ckpt_sys::{SysError, SysResult};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Room for a queue that its sender's buffer does not hold, bytes.
const ROOM: i32 = 256 << 20;

/// The peer of a socket whose peer is gone: alive until the queue is filled.
pub(super) struct Widow {
    /// Inode of the socket that stays.
    pub(super) inode: u64,
    /// The end that goes.
    pub(super) peer: OwnedFd,
    /// The end goes with something unread.
    pub(super) reset: bool,
}

/// Fills all queues, and closes the peers that are gone.
pub(super) fn fill(
    maker: &Maker<'_, '_>,
    sockets: &[(OpenFileId, &SocketV1)],
    widows: Vec<Widow>,
) -> RestoreResult<()> {
    for (id, record) in sockets.iter().filter(|(_, record)| !record.queue.is_empty()) {
        let by_inode = |inode: u64| sockets.iter().find(|(_, other)| other.inode == inode).map(|(id, _)| *id);
        for message in &record.queue {
            let sender = match &record.state {
                SocketStateV1::Connected { peer_inode, .. } => {
                    by_inode(*peer_inode).map(|id| maker.made(id)).transpose()?
                }
                SocketStateV1::PeerClosed { .. } => {
                    widows.iter().find(|widow| widow.inode == record.inode).map(|widow| widow.peer.as_fd())
                }
                _ => None,
            };
            match sender {
                Some(sender) => send_all(maker, sender, message, &[])?,
                None => {
                    let to = unix_name::reachable(maker, maker.made(*id)?, record)?;
                    send_by_name(maker, sockets, (*id, &to), message)?;
                }
            }
        }
    }
    for widow in widows {
        if widow.reset
            && let Some((id, _)) = sockets.iter().find(|(_, other)| other.inode == widow.inode)
        {
            // What is unread when an end is closed makes the other end fail with ECONNRESET.
            socket::send(maker.made(*id)?, b"r", &Attached::default())?;
        }
    }
    Ok(())
}

/// Sends to a socket that is not connected, by its name, from the socket of the job that has the sender's name; if none
/// has, without a name.
fn send_by_name(
    maker: &Maker<'_, '_>,
    sockets: &[(OpenFileId, &SocketV1)],
    (receiver, to): (OpenFileId, &[u8]),
    message: &DatagramV1,
) -> RestoreResult<()> {
    let further = maker.further;
    let named = |other: &SocketV1| {
        !message.from.is_empty() && other.local == message.from && other.kind == libc::SOCK_DGRAM
    };
    let mut named = sockets.iter().filter(|(_, other)| named(other));
    match named.clone().find(|(id, _)| further.share_net(*id, receiver)).or_else(|| named.next()) {
        Some((id, _)) => send_all(maker, maker.made(*id)?, message, to),
        None => further.in_net_of(receiver, || {
            let nobody = socket::new(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
            send_all(maker, nobody.as_fd(), message, to)
        }),
    }
}

fn send_all(
    maker: &Maker<'_, '_>,
    sender: BorrowedFd<'_>,
    message: &DatagramV1,
    to: &[u8],
) -> RestoreResult<()> {
    let mut files = Vec::with_capacity(message.files.len());
    for id in &message.files {
        files.push(maker.made(*id)?);
    }
    let mut rest = message.data.as_slice();
    let mut attached = Attached { to, files: &files, creds: message.creds };
    loop {
        let sent = send(sender, rest, &mut attached)?;
        rest = rest.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        attached.files = &[];
    }
}

fn send(sender: BorrowedFd<'_>, data: &[u8], attached: &mut Attached<'_>) -> RestoreResult<usize> {
    let mut enlarged = None;
    let result = loop {
        match socket::send(sender, data, attached) {
            // The one who sent it is gone, or we may not speak for him.
            Err(error)
                if attached.creds.is_some() && matches!(error.errno(), Some(Errno::ESRCH | Errno::EPERM)) =>
            {
                attached.creds = None;
            }
            Err(error) if error.errno() == Some(Errno::EAGAIN) && enlarged.is_none() => {
                enlarged = Some(enlarge(sender)?);
            }
            other => break other,
        }
    };
    if let Some(before) = enlarged {
        shrink(sender, before)?;
    }
    match result {
        Ok(0) if !data.is_empty() => {
            Err(RestoreError::Inconsistent { what: "a socket takes nothing of its queue".into() })
        }
        Ok(sent) => Ok(sent),
        Err(error) => Err(error.into()),
    }
}

const SO_BUF_LOCK: i32 = 72;

/// Makes a socket's send buffer large; what it was before: size and whether the program had set it.
fn enlarge(fd: BorrowedFd<'_>) -> SysResult<(i32, i32)> {
    let size = socket::int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF)?.unwrap_or(0);
    let locked = socket::int_option(fd, libc::SOL_SOCKET, SO_BUF_LOCK)?.unwrap_or(0);
    socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, ROOM)
        .or_else(|_| socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, ROOM))?;
    Ok((size, locked))
}

fn shrink(fd: BorrowedFd<'_>, (size, locked): (i32, i32)) -> Result<(), SysError> {
    socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, size / 2)?;
    socket::set_int_option(fd, libc::SOL_SOCKET, SO_BUF_LOCK, locked)
}
