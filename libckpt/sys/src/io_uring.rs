//! io_uring(7): rings as they are made, and what can be asked of one without changing it.
//!
//! The kernel shows no flags of a ring. Several of its calls look at the flags before they look at their argument: with an address that cannot be read
//! they say either that the ring is not of that kind, or EFAULT.
use crate::error::{SysError, SysResult};
use crate::pidfd::{owned, word};
use crate::raw::syscall;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// IORING_SETUP_*.
#[allow(missing_docs)]
pub mod setup {
    pub const IOPOLL: u32 = 1 << 0;
    pub const CQSIZE: u32 = 1 << 3;
    pub const R_DISABLED: u32 = 1 << 6;
    pub const TASKRUN_FLAG: u32 = 1 << 9;
    pub const SINGLE_ISSUER: u32 = 1 << 12;
    pub const DEFER_TASKRUN: u32 = 1 << 13;
    pub const NO_SQARRAY: u32 = 1 << 16;
}

/// IORING_REGISTER_* and IORING_UNREGISTER_*.
#[allow(missing_docs)]
pub mod operation {
    pub const EVENTFD: u64 = 4;
    pub const FILES_UPDATE: u64 = 6;
    pub const PROBE: u64 = 8;
    pub const RESTRICTIONS: u64 = 11;
    pub const ENABLE_RINGS: u64 = 12;
    pub const FILES2: u64 = 13;
    pub const BUFFERS2: u64 = 15;
    pub const BUFFERS_UPDATE: u64 = 16;
    pub const PBUF_STATUS: u64 = 26;
    pub const NAPI: u64 = 27;
    pub const RESIZE_RINGS: u64 = 33;
}

/// IORING_ENTER_REGISTERED_RING.
pub const ENTER_REGISTERED_RING: u64 = 1 << 4;
/// Descriptors of rings that a thread may register.
pub const REGISTERED_RINGS_MAX: u64 = 16;
/// Where a ring's parts are mapped from (IORING_OFF_*).
pub const OFFSET_RINGS: u64 = 0;
/// The completion ring, where that is not part of the first.
pub const OFFSET_COMPLETIONS: u64 = 0x800_0000;
/// The submission queue's entries.
pub const OFFSET_ENTRIES: u64 = 0x1000_0000;
/// Bytes of an entry of the submission queue.
pub const SUBMISSION: u64 = 64;
/// Bytes of an entry of the completion queue.
pub const COMPLETION: u64 = 16;
/// An address that nothing is at.
const NOWHERE: u64 = 1;

/// `struct io_uring_params`, in words of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params([u32; 30]);

impl Params {
    /// Bytes of it.
    pub const SIZE: usize = 120;

    /// What a ring of this size is asked for with.
    #[must_use]
    pub fn new(flags: u32, submissions: u32, completions: u32) -> Self {
        let mut words = [0; 30];
        words[1] = completions;
        words[0] = submissions;
        words[2] = flags | setup::CQSIZE;
        Self(words)
    }

    /// As the kernel takes it.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// As the kernel fills it in.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        Self(std::array::from_fn(|at| u32::from_ne_bytes(words[at])))
    }

    /// Where things are in the rings.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let at = |word: usize| u64::from(self.0[word]);
        Layout {
            submissions: self.0[0],
            completions: self.0[1],
            head: at(10),
            tail: at(11),
            dropped: at(15),
            array: at(16),
            completion_head: at(20),
            completion_tail: at(21),
            overflow: at(24),
            entries: at(25),
            completion_flags: at(26),
        }
    }
}

/// Where things are in the rings: offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries of the submission queue.
    pub submissions: u32,
    /// Entries of the completion queue.
    pub completions: u32,
    /// Head of the submission queue.
    pub head: u64,
    /// Its tail.
    pub tail: u64,
    /// Invalid entries that were dropped.
    pub dropped: u64,
    /// Numbers of the entries that are submitted.
    pub array: u64,
    /// Head of the completion queue.
    pub completion_head: u64,
    /// Its tail.
    pub completion_tail: u64,
    /// Completions that were lost.
    pub overflow: u64,
    /// Completions.
    pub entries: u64,
    /// IORING_CQ_*.
    pub completion_flags: u64,
}

/// Where things are in a ring of this size: asked of one that is made for that and closed again.
pub fn layout(submissions: u32, completions: u32) -> SysResult<Layout> {
    let mut params = Params::new(setup::R_DISABLED, submissions, completions);
    let at = u64::try_from((&raw mut params.0).expose_provenance()).unwrap_or(0);
    // SAFETY: `params` is laid out as the kernel's structure, which it fills in.
    unsafe { syscall(libc::SYS_io_uring_setup, [u64::from(submissions), at, 0, 0, 0, 0]) }
        .map(owned)
        .map_err(|errno| SysError::new("io_uring_setup", "this process", errno))?;
    Ok(params.layout())
}

/// What is asked of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether this thread may use it (IORING_SETUP_SINGLE_ISSUER): EEXIST if not. EACCES: it is restricted.
    Use,
    /// IORING_SETUP_IOPOLL: EINVAL if it is.
    Polled,
    /// IORING_SETUP_DEFER_TASKRUN: EINVAL if not.
    Deferred,
    /// An eventfd: EBUSY if it has one.
    Eventfd,
    /// IORING_SETUP_R_DISABLED: EBADFD if it is enabled.
    Disabled,
    /// A group of provided buffers: ENOENT if there is none of that number.
    Group(u32),
}

/// The call that asks: io_uring_register(2)'s arguments after the descriptor, and what the address of the argument must hold.
impl Question {
    /// Operation, and the argument's bytes; None: an address that cannot be read, or none.
    #[must_use]
    pub fn call(self) -> (u64, Option<Vec<u8>>) {
        match self {
            Self::Use => (operation::PROBE, Some(vec![0; 16])),
            Self::Polled => (operation::NAPI, None),
            Self::Deferred => (operation::RESIZE_RINGS, None),
            Self::Eventfd => (operation::EVENTFD, None),
            Self::Disabled => (operation::RESTRICTIONS, None),
            Self::Group(group) => {
                let mut status = group.to_ne_bytes().to_vec();
                status.resize(40, 0);
                (operation::PBUF_STATUS, Some(status))
            }
        }
    }

    /// The argument's address where there is nothing to read, and the count.
    #[must_use]
    pub fn rest(self) -> (u64, u64) {
        match self {
            Self::Use => (0, 0),
            Self::Disabled => (0, 0),
            _ => (NOWHERE, 1),
        }
    }

    /// Asks in this process.
    pub fn ask(self, ring: BorrowedFd<'_>) -> Result<(), Errno> {
        let (operation, argument) = self.call();
        let (nowhere, count) = self.rest();
        let mut argument = argument;
        let at = argument.as_mut().map_or(nowhere, |bytes| {
            u64::try_from(bytes.as_mut_ptr().expose_provenance()).unwrap_or(nowhere)
        });
        // SAFETY: the argument is as long as the operation takes it, or cannot be read.
        unsafe { syscall(libc::SYS_io_uring_register, [word(ring.as_raw_fd()), operation, at, count, 0, 0]) }
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    fn ring(flags: u32) -> Option<OwnedFd> {
        let mut params = Params::new(flags, 4, 16);
        let at = u64::try_from((&raw mut params.0).expose_provenance()).unwrap();
        // SAFETY: as in `layout`.
        unsafe { syscall(libc::SYS_io_uring_setup, [4, at, 0, 0, 0, 0]) }.ok().map(owned)
    }

    #[test]
    fn a_ring_tells_what_it_is() {
        let Some(plain) = ring(0) else {
            eprintln!("not exercised: io_uring is not permitted here");
            return;
        };
        let plain = plain.as_fd();
        assert_eq!(Question::Use.ask(plain), Ok(()));
        assert_eq!(Question::Polled.ask(plain), Err(Errno::EFAULT));
        assert_eq!(Question::Deferred.ask(plain), Err(Errno::EINVAL));
        assert_eq!(Question::Eventfd.ask(plain), Err(Errno::EFAULT));
        assert_eq!(Question::Disabled.ask(plain), Err(Errno::EBADFD));
        assert_eq!(Question::Group(3).ask(plain), Err(Errno::ENOENT));
        let deferred = ring(setup::SINGLE_ISSUER | setup::DEFER_TASKRUN).unwrap();
        assert_eq!(Question::Deferred.ask(deferred.as_fd()), Err(Errno::EFAULT));
        let other = deferred.try_clone().unwrap();
        std::thread::spawn(move || assert_eq!(Question::Use.ask(other.as_fd()), Err(Errno::EEXIST)))
            .join()
            .unwrap();
        let disabled = ring(setup::R_DISABLED).unwrap();
        assert_eq!(Question::Disabled.ask(disabled.as_fd()), Err(Errno::EINVAL));
        let layout = layout(4, 16).unwrap();
        assert_eq!((layout.submissions, layout.completions), (4, 16));
        assert!(layout.array >= layout.entries + 16 * COMPLETION);
    }
}
