//! A socket's buffers, made large for as long as its queues are filled.
use ckpt_sys::SysResult;
use ckpt_sys::socket::{int_option, set_int_option};
use std::os::fd::BorrowedFd;

const SO_BUF_LOCK: i32 = 72;
/// Room for a queue that is charged with more than it was, bytes.
const ROOM: i32 = 256 << 20;

/// One of a socket's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffer {
    /// What arrives.
    Receive,
    /// What is sent.
    Send,
}

impl Buffer {
    /// Its size, and that beyond the limit of the machine.
    fn options(self) -> (i32, i32) {
        match self {
            Self::Receive => (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
            Self::Send => (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
        }
    }
}

/// A buffer that is large for the time.
#[derive(Debug)]
pub(super) struct Room<'a> {
    fd: BorrowedFd<'a>,
    buffer: Buffer,
    size: i32,
    locked: i32,
}

impl<'a> Room<'a> {
    /// Makes room.
    pub(super) fn make(fd: BorrowedFd<'a>, buffer: Buffer) -> SysResult<Self> {
        let int = |name| Ok(int_option(fd, libc::SOL_SOCKET, name)?.unwrap_or(0));
        let room = Self { fd, buffer, size: int(buffer.options().0)?, locked: int(SO_BUF_LOCK)? };
        room.set(ROOM)?;
        Ok(room)
    }

    fn set(&self, size: i32) -> SysResult<()> {
        let (plain, force) = self.buffer.options();
        let set = |name| set_int_option(self.fd, libc::SOL_SOCKET, name, size);
        // Past the limit of the machine only with CAP_NET_ADMIN.
        set(force).or_else(|_| set(plain))
    }

    /// Makes it as it was.
    pub(super) fn end(self) -> SysResult<()> {
        // The kernel tells twice of what it was asked for.
        self.set(self.size / 2)?;
        set_int_option(self.fd, libc::SOL_SOCKET, SO_BUF_LOCK, self.locked)
    }
}
