//! Two words and a descriptor, from one process of ours to another.
use crate::error::{SysError, SysResult};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What is handed over.
#[derive(Debug)]
pub struct Parcel {
    /// What the two processes agree on.
    pub words: [u64; 2],
    /// The descriptor.
    pub fd: Option<OwnedFd>,
}

/// Both ends of a socket for parcels.
pub fn pair() -> SysResult<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| SysError::new("socketpair", "a child process", errno))
}

/// Hands a parcel over.
///
/// # Errors
/// EPIPE, ECONNRESET: the other side has ended.
pub fn send(socket: BorrowedFd<'_>, words: [u64; 2], fd: Option<BorrowedFd<'_>>) -> SysResult<()> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let sent =
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], rights, MsgFlags::MSG_NOSIGNAL, None);
    sent.map(drop).map_err(|errno| SysError::new("sendmsg", "a process of ours", errno))
}

/// Waits for a parcel; None: the other side has ended.
pub fn receive(socket: BorrowedFd<'_>) -> SysResult<Option<Parcel>> {
    let mut bytes = [0; 16];
    let mut room = cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let got = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags) {
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => return Ok(None),
            outcome => break outcome,
        }
    };
    let got = got.map_err(|errno| SysError::new("recvmsg", "a process of ours", errno))?;
    let mut fd = None;
    for message in got.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(fds) = message {
            // SAFETY: the kernel has just given them to us, and nobody else knows them.
            fd = fds.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).next();
        }
    }
    if got.bytes < 16 {
        return Ok(None);
    }
    let word = |at: usize| bytes[8 * at..][..8].try_into().map_or(0, u64::from_ne_bytes);
    Ok(Some(Parcel { words: [word(0), word(1)], fd }))
}
