//! What a capture has changed in a descriptor of the job's and not put back yet: noted in the scratch area, which stays in the job if the
//! capture is killed. So the note is where the harm is, goes when the process goes, and is found by whoever removes the area.
use crate::error::CaptureResult;
use ckpt_sys::inject::{NOTE_SIZE, Scratch};
use ckpt_sys::memory::ProcessMemory;

const PEEK_OFFSET: u64 = 1;

/// The journal of one capture. There is one entry at a time.
pub(crate) struct Journal<'a>(Option<(Scratch, &'a ProcessMemory)>);

/// SO_PEEK_OFF of a socket is about to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    /// The socket's inode.
    pub(crate) inode: u64,
    /// The value before.
    pub(crate) peek_offset: i32,
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
        let words = [PEEK_OFFSET, note.inode, i64::from(note.peek_offset).cast_unsigned()];
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
        let peek_offset = i32::try_from(word(2).cast_signed()).unwrap_or(-1);
        Ok((word(0) == PEEK_OFFSET).then_some(Note { inode: word(1), peek_offset }))
    }
}
