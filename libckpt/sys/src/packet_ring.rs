//! Rings of AF_PACKET sockets in memory, as Documentation/networking/packet_mmap.rst has it.
use crate::error::{SysError, SysResult};
use crate::socket;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

const SOL_PACKET: i32 = 263;
const RX_RING: i32 = 5;
const TX_RING: i32 = 13;
const VERSION: i32 = 10;
const STATISTICS: i32 = 6;

/// Which of the two that a socket may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Packets come in (PACKET_RX_RING).
    Receive,
    /// Packets go out (PACKET_TX_RING).
    Send,
}

/// What a ring is made of: `struct tpacket_req3`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Frames.
    pub frames: u32,
    /// After how many milliseconds a block that is not full is handed over; for version 3, as the rest.
    pub retire_ms: u32,
    /// Bytes at the beginning of each block that are the program's.
    pub private: u32,
    /// TP_FT_REQ_*.
    pub features: u32,
}

impl Shape {
    /// Bytes of all blocks.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let size = u64::from(self.block_size) * u64::from(self.blocks);
        usize::try_from(size).unwrap_or(usize::MAX)
    }
}

/// Whether a socket has a ring: its version, which must be the one that it has, can only be set while it has none.
pub fn has_any(fd: BorrowedFd<'_>, version: i32) -> SysResult<bool> {
    match socket::set_int_option(fd, SOL_PACKET, VERSION, version) {
        Err(error) if error.errno() == Some(Errno::EBUSY) => Ok(true),
        // Of the old type (SOCK_PACKET).
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => Ok(false),
        outcome => outcome.map(|()| false),
    }
}

/// Gives a socket a ring.
pub fn make(fd: BorrowedFd<'_>, direction: Direction, shape: &Shape) -> SysResult<()> {
    let Shape { block_size, blocks, frame_size, frames, retire_ms, private, features } = *shape;
    let words = [block_size, blocks, frame_size, frames, retire_ms, private, features];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = if direction == Direction::Receive { RX_RING } else { TX_RING };
    socket::set_option(fd, SOL_PACKET, name, &bytes)
}

/// Counts packets from nothing again.
pub fn reset_statistics(fd: BorrowedFd<'_>) -> SysResult<()> {
    socket::option(fd, SOL_PACKET, STATISTICS, 12).map(drop)
}

/// The memory of a socket's rings, mapped here: the one that receives first.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

impl Mapped {
    /// Maps all `len` bytes. EINVAL: the rings are of another size.
    pub fn new(fd: BorrowedFd<'_>, len: usize) -> SysResult<Self> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, of which nobody knows.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(SysError::last("mmap", "the ring of an AF_PACKET socket"));
        }
        let start =
            NonNull::new(start.cast()).ok_or_else(|| SysError::new("mmap", "a ring", Errno::EFAULT))?;
        Ok(Self { start, len })
    }

    /// Bytes from an offset on, which must be within.
    ///
    /// # Panics
    /// When they are not.
    #[must_use]
    pub fn read(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "beyond the ring");
        let mut bytes = vec![0; len];
        // SAFETY: within the mapping, as asserted; the kernel may write there meanwhile, and callers take the bytes for no more than that.
        unsafe { std::ptr::copy_nonoverlapping(self.start.as_ptr().add(at), bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Writes bytes from an offset on, which must be within.
    ///
    /// # Panics
    /// When they are not.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.len), "beyond the ring");
        // SAFETY: within the mapping, as asserted.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len()) };
    }

    fn atomic(&self, at: usize) -> &AtomicU32 {
        assert!(
            at.is_multiple_of(4) && at.checked_add(4).is_some_and(|end| end <= self.len),
            "beyond the ring"
        );
        // SAFETY: aligned and within the mapping, as asserted; whoever shares it takes such words for atomic, too.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    /// The word at an offset, and all that was written before it.
    ///
    /// # Panics
    /// When it is not within.
    #[must_use]
    pub fn word(&self, at: usize) -> u32 {
        self.atomic(at).load(Ordering::Acquire)
    }

    /// Sets the word at an offset, after all that was written before.
    ///
    /// # Panics
    /// When it is not within.
    pub fn set_word(&self, at: usize, value: u32) {
        self.atomic(at).store(value, Ordering::Release);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: our mapping, whole.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
