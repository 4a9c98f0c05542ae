//! What a capture has changed in a descriptor of the job's and not put back yet: noted in the scratch area, which stays in the job if the
//! capture is killed. So the note is where the harm is, goes when the process goes, and is found by whoever removes the area.
use crate::error::CaptureResult;
use ckpt_sys::inject::{NOTE_SIZE, Scratch};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::socket;
use ckpt_sys::tcp_repair::{self, Repair};
use std::os::fd::BorrowedFd;

const PEEK_OFFSET: u64 = 1;
const REPAIR: u64 = 2;

/// The journal of one capture. There is one entry at a time.
pub(crate) struct Journal<'a>(Option<(Scratch, &'a ProcessMemory)>);

/// SO_PEEK_OFF of a socket, or TCP_REPAIR too, is about to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    /// The socket's inode.
    pub(crate) inode: u64,
    /// The value before.
    pub(crate) peek_offset: i32,
    /// TCP_REPAIR, which takes SO_REUSEADDR for itself: what that was.
    pub(crate) repair: Option<i32>,
}

impl Note {
    /// Undoes the change to the socket.
    pub(crate) fn undo(&self, fd: BorrowedFd<'_>) -> CaptureResult<()> {
        if let Some(reuse) = self.repair
            && tcp_repair::is_in_repair(fd)?
        {
            Repair::resume(fd, reuse).end(true)?;
        }
        // TCP has it since Linux 6.9.
        if self.repair.is_none() || self.peek_offset >= 0 {
            socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, self.peek_offset)?;
        }
        Ok(())
    }
}

impl<'a> Journal<'a> {
    /// The journal in a scratch area of the job's.
    pub(crate) fn new(scratch: Scratch, memory: &'a ProcessMemory) -> Self {
        Self(Some((scratch, memory)))
    }

    /// No journal: what is looked at dies with us.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Writes the entry.
    pub(crate) fn write(&self, note: &Note) -> CaptureResult<()> {
        let mut bytes = [0; NOTE_SIZE];
        let word = |number: i32| i64::from(number).cast_unsigned();
        let kind = if note.repair.is_some() { REPAIR } else { PEEK_OFFSET };
        let words = [kind, note.inode, word(note.peek_offset), word(note.repair.unwrap_or(0))];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        self.put(&bytes)
    }

    /// Removes the entry.
    pub(crate) fn clear(&self) -> CaptureResult<()> {
        self.put(&[0; NOTE_SIZE])
    }

    fn put(&self, bytes: &[u8; NOTE_SIZE]) -> CaptureResult<()> {
        match self.0 {
            Some((scratch, memory)) => Ok(scratch.write_note(memory, bytes)?),
            None => Ok(()),
        }
    }

    /// The entry.
    pub(crate) fn read(&self) -> CaptureResult<Option<Note>> {
        let Some((scratch, memory)) = self.0 else { return Ok(None) };
        let bytes = scratch.note(memory)?;
        let word = |at: usize| bytes.as_chunks::<8>().0.get(at).map_or(0, |word| u64::from_le_bytes(*word));
        let number = |at: usize| i32::try_from(word(at).cast_signed()).ok();
        let repair = match word(0) {
            PEEK_OFFSET => None,
            REPAIR => Some(number(3).unwrap_or(0)),
            _ => return Ok(None),
        };
        Ok(Some(Note { inode: word(1), peek_offset: number(2).unwrap_or(-1), repair }))
    }
}
