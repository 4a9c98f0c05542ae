//! Memory that several processes use one after the other. A fresh page costs whoever touches it first that the kernel clears it, and a virtual machine that its
//! host finds one: together they take longer than the copy that goes into it.
use crate::error::{SysError, SysResult};
use memmap2::{Advice, MmapMut, MmapOptions};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::OwnedFd;

const PAGE: u64 = 4096;

/// Makes a file in memory, without a page yet. Its pages stay as long as a descriptor of it is open.
pub fn make() -> SysResult<OwnedFd> {
    let failed = |errno| SysError::new("memfd_create", "memory for copies", errno);
    memfd_create("ckpt-copies", MFdFlags::MFD_CLOEXEC).map_err(failed)
}

/// Such memory, as the process uses it whose turn it is. What is in it is of no account at first.
#[derive(Debug)]
pub struct LentMemory {
    file: File,
    /// Bytes that can be had.
    len: u64,
    /// Bytes that were taken.
    taken: Cell<u64>,
}

impl LentMemory {
    /// Takes the turn: `len` bytes can be had. `file` is one of [`make`]'s, that nobody else uses meanwhile.
    pub fn take_turn(file: OwnedFd, len: u64) -> SysResult<Self> {
        let file = File::from(file);
        let len = len / PAGE * PAGE;
        file.set_len(len).map_err(|error| SysError::new("ftruncate", "memory for copies", error))?;
        Ok(Self { file, len, taken: Cell::new(0) })
    }

    /// A piece of `len` bytes, all of whose pages are there. None: so much is not left.
    #[must_use]
    pub fn piece(&self, len: usize) -> Option<MmapMut> {
        let start = self.taken.get();
        let end = start.checked_add(u64::try_from(len).ok()?.next_multiple_of(PAGE))?;
        if len == 0 || end > self.len {
            return None;
        }
        // SAFETY: no process but this one uses the file now, no two pieces overlap, and nobody makes the file shorter.
        let piece = unsafe { MmapOptions::new().offset(start).len(len).map_mut(&self.file) }.ok()?;
        // As if they were read: the kernel then maps sixteen at a time, to be written, too, for the mapping is shared.
        piece.advise(Advice::PopulateRead).ok()?;
        self.taken.set(end);
        Some(piece)
    }

    /// Gives back to the system what earlier turns took and this one has not.
    pub fn trim(&self) {
        let taken = self.taken.get();
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (Ok(from), Ok(len)) = (i64::try_from(taken), i64::try_from(self.len - taken)) else { return };
        if len > 0
            && let Err(errno) = fallocate(&self.file, flags, from, len)
        {
            tracing::debug!(%errno, "memory of earlier turns stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn pages_stay_from_turn_to_turn() {
        let fd = make().unwrap();
        let blocks = |fd: &OwnedFd| File::from(fd.try_clone().unwrap()).metadata().unwrap().blocks() * 512;
        let turn = || LentMemory::take_turn(fd.try_clone().unwrap(), 1 << 20).unwrap();
        let lent = turn();
        let mut pieces: Vec<MmapMut> = (0..4).map(|_| lent.piece(100_000).unwrap()).collect();
        for (piece, byte) in pieces.iter_mut().zip(1..) {
            piece.fill(byte);
        }
        for (piece, byte) in pieces.iter().zip(1..) {
            assert!(piece.iter().all(|b| *b == byte));
        }
        assert!(lent.piece(1 << 20).is_none() && lent.piece(0).is_none());
        lent.trim();
        assert_eq!(blocks(&fd), 4 * 102_400);
        drop((lent, pieces));
        let lent = turn();
        let piece = lent.piece(4096).unwrap();
        assert_eq!(blocks(&fd), 4 * 102_400);
        assert_eq!(piece[..], [1; 4096]);
        lent.trim();
        assert_eq!(blocks(&fd), 4096);
    }
}
