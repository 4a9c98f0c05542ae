//! An exported checkpoint: a header, then frames, each of which vouches for all before it.
use super::header::DIGEST_LEN;
use super::{HEADER_LEN, Role, StoreId, array, check_header, encode_header, u32_at};
use crate::StoreError;
use std::io::{self, Read, Write};
use std::path::Path;

/// What messages call a stream, which has no name here.
pub(crate) const STREAM: &str = "(exported checkpoint)";
/// Most bytes of a frame.
const FRAME_LIMIT: usize = 1 << 20;
/// tag, length: u32 each; digest.
const FRAME_HEADER: usize = 8 + DIGEST_LEN;

/// What a frame holds. Frames come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FrameTag {
    /// The manifest, without files and parent.
    Manifest = 1,
    /// A piece of the records.
    Records = 2,
    /// A block of pages: its table entry, its stored bytes.
    Block = 3,
    /// A piece of the page index.
    Pages = 4,
    /// The end.
    End = 5,
}

impl FrameTag {
    fn from_number(number: u32) -> Option<Self> {
        [Self::Manifest, Self::Records, Self::Block, Self::Pages, Self::End]
            .into_iter()
            .find(|t| *t as u32 == number)
    }
}

/// Writes a stream.
pub(crate) struct FrameWriter<W> {
    out: W,
    digest: [u8; DIGEST_LEN],
}

impl<W: Write> FrameWriter<W> {
    /// Writes the header. `name` is the checkpoint's id.
    pub(crate) fn new(mut out: W, store: StoreId, name: &str) -> io::Result<Self> {
        let header = encode_header(Role::Stream, store, name);
        out.write_all(&header)?;
        Ok(Self { out, digest: array(&header, HEADER_LEN - DIGEST_LEN) })
    }

    /// Writes a frame, whose payload is `parts` one after the other.
    pub(crate) fn frame(&mut self, tag: FrameTag, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|p| p.len()).sum();
        let length = u32::try_from(length).map_err(|_| io::Error::other("frame too long"))?;
        let mut head = [0; 8];
        head[..4].copy_from_slice(&(tag as u32).to_le_bytes());
        head[4..].copy_from_slice(&length.to_le_bytes());
        self.digest = chain(&self.digest, &head, parts);
        self.out.write_all(&head)?;
        self.out.write_all(&self.digest)?;
        parts.iter().try_for_each(|p| self.out.write_all(p))
    }

    /// Writes bytes as so many frames as they need.
    pub(crate) fn pieces(&mut self, tag: FrameTag, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(FRAME_LIMIT).try_for_each(|piece| self.frame(tag, &[piece]))
    }

    /// Ends the stream.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.frame(FrameTag::End, &[])?;
        self.out.flush()
    }
}

/// Reads a stream.
pub(crate) struct FrameReader<R> {
    input: R,
    digest: [u8; DIGEST_LEN],
    last: FrameTag,
}

impl<R: Read> FrameReader<R> {
    /// Reads the header.
    pub(crate) fn new(mut input: R) -> Result<Self, StoreError> {
        let mut header = [0; HEADER_LEN];
        fill(&mut input, &mut header)?;
        check_header(&header, Path::new(STREAM), Role::Stream, None, None)?;
        Ok(Self { input, digest: array(&header, HEADER_LEN - DIGEST_LEN), last: FrameTag::Manifest })
    }

    /// Reads a frame and checks it; its payload is in `payload`. None after the last one, with nothing behind it.
    pub(crate) fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<FrameTag>, StoreError> {
        let mut head = [0; FRAME_HEADER];
        fill(&mut self.input, &mut head)?;
        let length = usize::try_from(u32_at(&head, 4)).unwrap_or(usize::MAX);
        let tag =
            FrameTag::from_number(u32_at(&head, 0)).filter(|t| *t >= self.last && length <= FRAME_LIMIT);
        let Some(tag) = tag else { return Err(bad("a frame that is none")) };
        payload.resize(length, 0);
        fill(&mut self.input, payload)?;
        self.digest = chain(&self.digest, &head[..8], &[payload]);
        if self.digest != array(&head, 8) {
            return Err(bad("a frame's bytes do not match their checksum"));
        }
        self.last = tag;
        if tag != FrameTag::End {
            return Ok(Some(tag));
        }
        match self.input.by_ref().take(1).read(&mut [0]).map_err(StoreError::reading(Path::new(STREAM)))? {
            0 if length == 0 => Ok(None),
            _ => Err(bad("something follows its end")),
        }
    }
}

fn chain(digest: &[u8; DIGEST_LEN], head: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest).update(head);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn fill(input: &mut impl Read, out: &mut [u8]) -> Result<(), StoreError> {
    input.read_exact(out).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => bad("cut short"),
        _ => StoreError::reading(Path::new(STREAM))(e),
    })
}

/// The error of a stream that is not what was written.
fn bad(reason: &str) -> StoreError {
    StoreError::corrupt(Path::new(STREAM), reason)
}
