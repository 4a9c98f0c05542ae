//! userfaultfd(2) for pages that are filled when they are touched (UFFDIO_REGISTER_MODE_MISSING), with the events that tell what the program does to its
//! mappings meanwhile.
//!
//! While an event is unread, or its cause is under way, the kernel refuses to fill anything with EAGAIN: who fills by what it has read so far
//! fills the right page or none.
use crate::error::{SysError, SysResult};
use crate::pidfd::owned;
use crate::uffd::{self, feature, ioctl};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

const UFFDIO_WAKE: u64 = 0x8010_aa02;
const UFFDIO_COPY: u64 = 0xc028_aa03;
const UFFDIO_ZEROPAGE: u64 = 0xc020_aa04;
/// Flag of userfaultfd(2): reads do not wait, and poll(2) works.
pub const O_NONBLOCK: u64 = 0o4000;
const MESSAGE: usize = 32;

/// What happened in the address space.
#[derive(Debug)]
pub enum Message {
    /// A page that is not there was touched, at this address. Who touched it waits until it is filled or woken.
    Fault(u64),
    /// The address space was copied; the descriptor is of the copy, in which the same pages are missing.
    Fork(OwnedFd),
    /// Pages were moved.
    Moved {
        /// Where they were.
        from: u64,
        /// Where they are.
        to: u64,
        /// Bytes.
        len: u64,
    },
    /// The contents of this range are given up, or it is unmapped.
    Gone(Range<u64>),
}

/// Agrees on the events with a new userfaultfd.
///
/// # Errors
/// EPERM: events of fork(2) take CAP_SYS_PTRACE.
pub fn enable(fd: BorrowedFd<'_>) -> SysResult<()> {
    let events = feature::EVENT_FORK | feature::EVENT_REMAP | feature::EVENT_REMOVE | feature::EVENT_UNMAP;
    uffd::handshake(fd, events)
}

/// Whether a userfaultfd is one of these, by the text of its fdinfo.
#[must_use]
pub fn is_ours(fdinfo: &str) -> bool {
    let features = fdinfo.lines().find_map(|line| uffd::features(line.strip_prefix("API:")?)).unwrap_or(0);
    features & feature::EVENT_FORK != 0
}

/// Registers `range`: who touches a page in it that is not there waits until that is filled.
pub fn register(fd: BorrowedFd<'_>, range: Range<u64>) -> SysResult<()> {
    uffd::register(fd, range, uffd::mode::MISSING)
}

/// Fills pages at `address` with `bytes`, whole pages, and wakes who waits for them. The number of bytes that were filled, and why not all.
pub fn copy(fd: BorrowedFd<'_>, address: u64, bytes: &[u8]) -> (usize, Option<Errno>) {
    let source = u64::try_from(bytes.as_ptr().expose_provenance()).unwrap_or(0);
    let len = u64::try_from(bytes.len()).unwrap_or(0);
    let mut arg = [address, source, len, 0, 0];
    let outcome = ioctl(fd, UFFDIO_COPY, "ioctl(UFFDIO_COPY)", "", &mut arg);
    (usize::try_from(arg[4].cast_signed()).unwrap_or(0), outcome.err().and_then(|error| error.errno()))
}

/// Fills `range` with zero pages and wakes who waits for them.
pub fn zero(fd: BorrowedFd<'_>, range: Range<u64>) -> Result<(), Errno> {
    zero_some(fd, range).1.map_or(Ok(()), Err)
}

/// As [`zero`]; the number of bytes that were filled, and why not all.
pub fn zero_some(fd: BorrowedFd<'_>, range: Range<u64>) -> (u64, Option<Errno>) {
    let mut arg = [range.start, range.end - range.start, 0, 0];
    let outcome = ioctl(fd, UFFDIO_ZEROPAGE, "ioctl(UFFDIO_ZEROPAGE)", "", &mut arg);
    let failed = outcome.err().map(|error| error.errno().unwrap_or(Errno::EIO));
    (u64::try_from(arg[3].cast_signed()).unwrap_or(0), failed)
}

/// Has whoever waits for a page in `range` try again.
pub fn wake(fd: BorrowedFd<'_>, range: Range<u64>) {
    let mut arg = [range.start, range.end - range.start];
    // It fails for addresses that no address space has.
    let _ = ioctl(fd, UFFDIO_WAKE, "ioctl(UFFDIO_WAKE)", "", &mut arg);
}

/// What has happened since the last read; nothing, as a rule, if nothing has.
///
/// # Errors
/// Any but EAGAIN.
pub fn read(fd: BorrowedFd<'_>) -> SysResult<Vec<Message>> {
    let mut buffer = [0u8; 32 * MESSAGE];
    // SAFETY: the buffer is ours and as long as is said.
    let got = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let Ok(got) = usize::try_from(got) else {
        return match SysError::last("read", "userfaultfd") {
            error if matches!(error.errno(), Some(Errno::EAGAIN | Errno::EINTR)) => Ok(Vec::new()),
            error => Err(error),
        };
    };
    Ok(buffer[..got].chunks_exact(MESSAGE).filter_map(message).collect())
}

/// `struct uffd_msg`: the event's number, 7 bytes, and 3 words.
fn message(bytes: &[u8]) -> Option<Message> {
    let word = |at: usize| bytes[8 + 8 * at..][..8].try_into().map_or(0, u64::from_ne_bytes);
    match bytes[0] {
        // The address comes after the flags.
        0x12 => Some(Message::Fault(word(1))),
        0x13 => Some(Message::Fork(owned(word(0) & 0xffff_ffff))),
        0x14 => Some(Message::Moved { from: word(0), to: word(1), len: word(2) }),
        0x15 | 0x16 => Some(Message::Gone(word(0)..word(1))),
        _ => None,
    }
}

/// Waits until one of the descriptors has something to tell, `limit` milliseconds at most. Which have; a number that is none has nothing.
#[must_use]
pub fn wait(numbers: &[RawFd], limit: i32) -> Vec<bool> {
    let poll = |fd: &RawFd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = numbers.iter().map(poll).collect();
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    // SAFETY: as many valid structures as is said.
    unsafe { libc::poll(polled.as_mut_ptr(), count, limit) };
    polled.iter().map(|fd| fd.revents & (libc::POLLIN | libc::POLLHUP) != 0).collect()
}
