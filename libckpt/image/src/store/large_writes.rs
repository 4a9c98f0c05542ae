//! A file that is written from beginning to end, in large pieces that go past the page cache: what a checkpoint writes is not what programs read
//! next, and should not push that out, nor make the kernel throttle those who dirty pages.
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io::{self, Write};

/// Bytes of a piece.
const PIECE: usize = 4 << 20;
/// What buffers and lengths of direct writes are multiples of: the largest block that disks have.
const ALIGN: usize = 4096;

/// The file. Nothing of it is certain to be written before [`LargeWrites::flush`].
#[derive(Debug)]
pub(super) struct LargeWrites {
    file: File,
    buffer: Vec<u8>,
    /// Where the piece begins in the buffer.
    start: usize,
    filled: usize,
    /// Whether the file is open for direct writes; None: not tried yet.
    direct: Option<bool>,
}

impl LargeWrites {
    /// Writes to an empty file.
    pub(super) fn new(file: File) -> Self {
        let buffer: Vec<u8> = Vec::new();
        Self { file, buffer, start: 0, filled: 0, direct: None }
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Adds bytes. `write` is told to write each time that a piece is full.
    pub(super) fn add(
        &mut self,
        mut bytes: &[u8],
        mut write: impl FnMut(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(PIECE - self.filled));
            self.make_room(self.filled + head.len());
            let at = self.start + self.filled;
            self.buffer[at..at + head.len()].copy_from_slice(head);
            self.filled += head.len();
            bytes = rest;
            if self.filled == PIECE {
                write(&mut || self.write_piece())?;
            }
        }
        Ok(())
    }

    /// Writes what is left. The file takes no large pieces any more after that.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.go_direct(false);
        let piece = self.start..self.start + self.filled;
        self.filled = 0;
        self.file.write_all(&self.buffer[piece])
    }

    /// Memory for so many bytes: little for small files, and aligned for large ones.
    fn make_room(&mut self, bytes: usize) {
        if self.buffer.len() >= self.start + bytes {
            return;
        }
        let size = (2 * bytes).clamp(1 << 16, PIECE);
        let mut larger = vec![0; size + ALIGN];
        let start = larger.as_ptr().align_offset(ALIGN).min(ALIGN);
        larger[start..start + self.filled]
            .copy_from_slice(&self.buffer[self.start..self.start + self.filled]);
        (self.buffer, self.start) = (larger, start);
    }

    fn write_piece(&mut self) -> io::Result<()> {
        if self.direct.is_none() {
            self.go_direct(true);
        }
        let mut piece = &self.buffer[self.start..self.start + self.filled];
        while !piece.is_empty() {
            match self.file.write(piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // After a write that was cut short, the rest may not be aligned.
                Ok(n) if n % ALIGN != 0 => {
                    piece = &piece[n..];
                    set_direct(&self.file, false);
                    self.direct = Some(false);
                }
                Ok(n) => piece = &piece[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Some file systems say only now that they have no direct writes.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && self.direct == Some(true) => {
                    set_direct(&self.file, false);
                    self.direct = Some(false);
                }
                Err(e) => return Err(e),
            }
        }
        self.filled = 0;
        Ok(())
    }

    fn go_direct(&mut self, direct: bool) {
        if self.direct.unwrap_or(false) != direct {
            self.direct = Some(set_direct(&self.file, direct) && direct);
        }
    }
}

/// Whether it could be set. Where it cannot, writes go by way of the page cache.
fn set_direct(file: &File, direct: bool) -> bool {
    let flags = if direct { OFlag::O_DIRECT } else { OFlag::empty() };
    fcntl(file, FcntlArg::F_SETFL(flags)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_in_order() {
        for total in [0, 1, 5000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 4097] {
            let bytes: Vec<u8> = (0..total).map(|n| u8::try_from((n / 7) % 251).unwrap_or(0)).collect();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let mut file = LargeWrites::new(File::create(&path).unwrap());
            let mut pieces = 0;
            for part in bytes.chunks(70_001) {
                file.add(part, |write| {
                    pieces += 1;
                    write()
                })
                .unwrap();
            }
            file.flush().unwrap();
            file.add(b"end", |_| unreachable!()).unwrap();
            file.flush().unwrap();
            assert_eq!(pieces, total / PIECE);
            assert!(std::fs::read(&path).unwrap() == [&bytes[..], b"end"].concat(), "{total}");
        }
    }
}
