//! What the kernel tells of AF_UNIX sockets (sock_diag(7), unix_diag): who is connected to whom.
use crate::error::{SysError, SysResult};
use crate::sock_diag::{dump, u16_at, u32_at};
use nix::errno::Errno;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// UDIAG_SHOW_VFS, PEER, ICONS, RQLEN.
const SHOW: u32 = 2 | 4 | 8 | 16;
const UNIX_DIAG_VFS: u16 = 1;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_ICONS: u16 = 3;
const UNIX_DIAG_RQLEN: u16 = 4;
const UNIX_DIAG_SHUTDOWN: u16 = 6;
/// Bytes of `struct unix_diag_msg`.
const BODY: usize = 16;
const TCP_LISTEN: u8 = 10;
/// SIOCUNIXFILE.
const SIOCUNIXFILE: libc::Ioctl = 0x89e0;

/// One AF_UNIX socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Inode.
    pub inode: u64,
    /// It listens.
    pub listening: bool,
    /// Device and inode of the file that it is bound to.
    pub file: Option<(u64, u64)>,
    /// Inode of its peer; 0 when the peer has no descriptor: closed, or not accepted yet.
    pub peer: Option<u64>,
    /// Of a listener: inodes of the sockets whose connections wait to be accepted.
    pub waiting: Vec<u64>,
    /// Bytes (stream) or connections (listener) that wait.
    pub receive_queue: u32,
    /// Of a listener: the backlog.
    pub send_queue: u32,
    /// SHUT_* that were done: bit 0 reading, bit 1 writing.
    pub shutdown: u8,
}

/// All AF_UNIX sockets of our network namespace, by inode.
pub fn sockets() -> SysResult<HashMap<u64, UnixSocket>> {
    // struct unix_diag_req: family, protocol, pad, states, inode, show, cookie.
    let mut request = vec![1, 0, 0, 0];
    request.extend([u32::MAX, 0, SHOW, 0, 0].iter().flat_map(|word| word.to_ne_bytes()));
    let mut found = HashMap::new();
    dump(&request, &mut |message| {
        if let Some(socket) = parse(message) {
            found.insert(socket.inode, socket);
        }
    })?;
    Ok(found)
}

/// The file that a socket is bound to, whatever its name is by now (O_PATH); None: to none. Needs CAP_NET_ADMIN.
pub fn bound_file(socket: BorrowedFd<'_>) -> SysResult<Option<OwnedFd>> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE) };
    if fd < 0 {
        return match Errno::last() {
            Errno::ENOENT => Ok(None),
            errno => Err(SysError::new("ioctl(SIOCUNIXFILE)", "an AF_UNIX socket", errno)),
        };
    }
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn parse(message: &[u8]) -> Option<UnixSocket> {
    let mut socket = UnixSocket {
        inode: u64::from(u32_at(message, 4)?),
        listening: *message.get(2)? == TCP_LISTEN,
        ..UnixSocket::default()
    };
    let mut rest = message.get(BODY..)?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0).map(usize::from), u16_at(rest, 2)) {
        let value = rest.get(4..len)?;
        match kind {
            UNIX_DIAG_VFS => {
                socket.file = Some((u64::from(u32_at(value, 4)?), u64::from(u32_at(value, 0)?)));
            }
            UNIX_DIAG_PEER => socket.peer = Some(u64::from(u32_at(value, 0)?)),
            UNIX_DIAG_ICONS => {
                let inodes = value.chunks_exact(4).filter_map(|word| word.try_into().ok());
                socket.waiting = inodes.map(|word| u64::from(u32::from_ne_bytes(word))).collect();
            }
            UNIX_DIAG_RQLEN => {
                (socket.receive_queue, socket.send_queue) = (u32_at(value, 0)?, u32_at(value, 4)?)
            }
            UNIX_DIAG_SHUTDOWN => socket.shutdown = *value.first()?,
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn inode(socket: &impl std::os::fd::AsRawFd) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn pairs_and_waiting_connections_are_told() {
        let (a, b) = UnixStream::pair().unwrap();
        let path = std::env::temp_dir().join(format!("ckpt-unix-diag-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let found = sockets().unwrap();
        assert_eq!(found[&inode(&a)].peer, Some(inode(&b)));
        assert_eq!(found[&inode(&b)].peer, Some(inode(&a)));
        let listening = &found[&inode(&listener)];
        assert!(listening.listening && listening.send_queue > 0);
        assert_eq!(listening.waiting, [inode(&client)]);
        assert_eq!(listening.file.unwrap().1, std::fs::metadata(&path).unwrap().ino());
        assert_eq!(found[&inode(&client)].peer, Some(0));
        std::fs::remove_file(path).unwrap();
    }
}
