//! The way of descriptors from this process into the one under construction: a pair of sockets, SCM_RIGHTS and remote recvmsg(2).
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::FdTableV1;
use ckpt_sys::pidfd;
use ckpt_sys::socket::{self, Attached, MESSAGE_FILES_MAX};
use nix::errno::Errno;
use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of the control buffer: a header and the descriptors of one message.
const CONTROL: usize = 16 + 4 * MESSAGE_FILES_MAX + 4;

/// Both ends.
#[derive(Debug)]
pub(super) struct Channel {
    ours: OwnedFd,
    theirs: u64,
}

impl Channel {
    /// Opens a channel into a process without descriptors. Its end there has a number that the image does not use; `used` are
    /// numbers that it uses beside those of the table.
    pub(super) fn open(builder: &mut Builder<'_>, table: &FdTableV1, used: &[i32]) -> RestoreResult<Self> {
        let pair = builder.remote.reserve(8)?;
        let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).unsigned_abs();
        let args = [u64::from(libc::AF_UNIX.unsigned_abs()), u64::from(kind), 0, pair.get()];
        builder.call("socketpair", &"the channel for descriptors", libc::SYS_socketpair, &args)?;
        let both = builder.remote.memory().read_u64(pair)?;
        let (near, far) = (both & u64::from(u32::MAX), both >> 32);
        let process = pidfd::open_task(builder.remote.pid())?;
        let ours = pidfd::getfd(process.as_fd(), i32::try_from(near).unwrap_or(-1))?;
        let used: HashSet<u64> = table
            .fds
            .iter()
            .map(|fd| fd.fd)
            .chain(used.iter().copied())
            .map(|fd| u64::from(fd.unsigned_abs()))
            .collect();
        let theirs = free_number(builder, &used, far)?;
        for end in [near, far] {
            builder.call("close", &"the channel for descriptors", libc::SYS_close, &[end])?;
        }
        Ok(Self { ours, theirs })
    }

    /// The number of the far end.
    pub(super) fn number(&self) -> u64 {
        self.theirs
    }

    /// Sends descriptors, at most [`MESSAGE_FILES_MAX`]; the numbers that they get: the lowest free ones, all close-on-exec.
    pub(super) fn send(&self, builder: &mut Builder<'_>, fds: &[BorrowedFd<'_>]) -> RestoreResult<Vec<u64>> {
        socket::send(self.ours.as_fd(), b"f", &Attached { files: fds, ..Attached::default() })?;
        let byte = builder.remote.reserve(16)?.get();
        let control = builder.remote.reserve(CONTROL)?;
        // struct iovec, then struct msghdr.
        let vector = builder.remote.place(&words(&[byte, 1]))?.get();
        let control_len = u64::try_from(CONTROL).unwrap_or(0);
        let header = builder.remote.place(&words(&[0, 0, vector, 1, control.get(), control_len, 0]))?;
        let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT).unsigned_abs();
        let args = [self.theirs, header.get(), u64::from(flags)];
        builder.call("recvmsg", &"the channel for descriptors", libc::SYS_recvmsg, &args)?;
        let mut received = vec![0; 16 + 4 * fds.len()];
        builder.remote.memory().read(control, &mut received)?;
        let len = u64::from_ne_bytes(received[..8].try_into().unwrap_or_default());
        if len != u64::try_from(received.len()).unwrap_or(0) {
            // The kernel passes on as many as there is room for in the table.
            return Err(RestoreError::Remote {
                pid: builder.remote.pid(),
                call: "recvmsg",
                object: format!("{} descriptors", fds.len()),
                errno: Errno::EMFILE,
            });
        }
        let numbers = received[16..].chunks_exact(4).filter_map(|word| word.try_into().ok());
        Ok(numbers.map(|word| u64::from(u32::from_ne_bytes(word))).collect())
    }

    /// Sends one descriptor; its number there.
    pub(super) fn send_one(&self, builder: &mut Builder<'_>, fd: BorrowedFd<'_>) -> RestoreResult<u64> {
        let numbers = match self.send(builder, &[fd]) {
            // io_uring instances are not for sockets.
            Err(RestoreError::Sys(error)) if error.errno() == Some(Errno::EINVAL) => {
                return self.let_fetch(builder, fd);
            }
            outcome => outcome?,
        };
        numbers
            .first()
            .copied()
            .ok_or_else(|| RestoreError::Inconsistent { what: "a lost descriptor".into() })
    }

    /// Has the process take a descriptor from us (pidfd_getfd(2)); its number there, the lowest free one.
    fn let_fetch(&self, builder: &mut Builder<'_>, fd: BorrowedFd<'_>) -> RestoreResult<u64> {
        let own = pidfd::open(std::process::id().cast_signed())?;
        let first = self.send_one(builder, own.as_fd())?;
        let object = "a descriptor of ckpt's";
        let args = [first, u64::from(fd.as_raw_fd().unsigned_abs()), 0];
        let fetched = builder.call("pidfd_getfd", &object, libc::SYS_pidfd_getfd, &args)?;
        let cloexec = u64::from(libc::O_CLOEXEC.unsigned_abs());
        builder.call("dup3", &object, libc::SYS_dup3, &[fetched, first, cloexec])?;
        builder.call("close", &object, libc::SYS_close, &[fetched])?;
        Ok(first)
    }

    /// Closes both ends.
    pub(super) fn close(self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        builder.call("close", &"the channel for descriptors", libc::SYS_close, &[self.theirs]).map(drop)
    }
}

/// Duplicates descriptor `from` to a number that the image does not use: the first above those that it uses, or a gap.
fn free_number(builder: &mut Builder<'_>, used: &HashSet<u64>, from: u64) -> RestoreResult<u64> {
    let above = used.iter().max().map_or(0, |highest| highest + 1).max(16);
    let dup = u64::from(libc::F_DUPFD_CLOEXEC.unsigned_abs());
    match builder.remote.syscall(libc::SYS_fcntl, &[from, dup, above])? {
        Ok(number) => return Ok(number),
        Err(Errno::EINVAL | Errno::EMFILE) => {}
        Err(errno) => return Err(failed(builder, errno)),
    }
    let Some(gap) = (2..above).rev().find(|number| !used.contains(number)) else {
        return Err(failed(builder, Errno::EMFILE));
    };
    let cloexec = u64::from(libc::O_CLOEXEC.unsigned_abs());
    builder.call("dup3", &"the channel for descriptors", libc::SYS_dup3, &[from, gap, cloexec])
}

fn failed(builder: &Builder<'_>, errno: Errno) -> RestoreError {
    let object = "the channel for descriptors".into();
    RestoreError::Remote { pid: builder.remote.pid(), call: "fcntl(F_DUPFD)", object, errno }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
