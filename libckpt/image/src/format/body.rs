//! The bodies of records files and page indexes: compressed where that makes them smaller.
use super::{u32_at, u64_at};
use crate::StoreError;
use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::path::Path;
use zstd::bulk::Decompressor;

/// First version of the format whose bodies are wrapped.
const WRAPPED_SINCE: u16 = 2;
/// compression u32, reserved u32, length u64.
const HEAD: usize = 16;
const RAW: u32 = 0;
const ZSTD: u32 = 1;
/// A body is compressed to a part of this size at most: that bounds what a reader allocates by the size of the file.
const MOST_RATIO: usize = 256;
const LEVEL: i32 = 3;

/// What is between header and closing digest.
pub(crate) fn wrap(raw: &[u8]) -> Vec<u8> {
    let compressed = zstd::bulk::compress(raw, LEVEL).ok();
    let fits = |c: &Vec<u8>| c.len() < raw.len() && raw.len() / MOST_RATIO < c.len();
    let compressed = compressed.filter(fits);
    let (codec, bytes) = compressed.as_deref().map_or((RAW, raw), |bytes| (ZSTD, bytes));
    let mut out = Vec::with_capacity(HEAD + bytes.len());
    out.extend_from_slice(&codec.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(raw.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

/// The body in a file of this version of the format, whose digest the caller has checked.
pub(crate) fn unwrap<'a>(version: u16, stored: &'a [u8], path: &Path) -> Result<Cow<'a, [u8]>, StoreError> {
    if version < WRAPPED_SINCE {
        return Ok(Cow::Borrowed(stored));
    }
    let bad = |reason: &str| StoreError::corrupt(path, format!("its body {reason}"));
    if stored.len() < HEAD {
        return Err(bad("is cut short"));
    }
    let (head, bytes) = stored.split_at(HEAD);
    let length = usize::try_from(u64_at(head, 8)).unwrap_or(usize::MAX);
    match u32_at(head, 0) {
        _ if u32_at(head, 4) != 0 => Err(bad("has unknown values")),
        RAW if length == bytes.len() => Ok(Cow::Borrowed(bytes)),
        ZSTD if length / MOST_RATIO <= bytes.len() => {
            decompress(bytes, length).map(Cow::Owned).map_err(|_| bad("cannot be decompressed"))
        }
        RAW | ZSTD => Err(bad("is of another length than it says")),
        _ => Err(bad("has an unknown compression")),
    }
}

fn decompress(bytes: &[u8], length: usize) -> io::Result<Vec<u8>> {
    thread_local! {
        // To make one takes as long as a body of some hundred KiB.
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(kept) => kept,
            empty => empty.insert(Decompressor::new()?),
        };
        let mut out = Vec::with_capacity(length);
        let done = decompressor.decompress_to_buffer(bytes, &mut out)?;
        if done == length { Ok(out) } else { Err(io::ErrorKind::InvalidData.into()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_and_lies_about_their_length_do_not() {
        let path = Path::new("body");
        let text = b"so it goes, ".repeat(40);
        for raw in [&b""[..], b"x", &text, &vec![0; 1 << 20]] {
            let wrapped = wrap(raw);
            assert_eq!(*unwrap(2, &wrapped, path).unwrap(), *raw);
            assert_eq!(*unwrap(1, raw, path).unwrap(), *raw);
            for length in [0_u64, raw.len() as u64 + 1, u64::MAX] {
                let mut lie = wrapped.clone();
                lie[8..16].copy_from_slice(&length.to_le_bytes());
                assert!(length == raw.len() as u64 || unwrap(2, &lie, path).is_err());
            }
        }
        assert!(wrap(&text).len() < text.len() / 2);
    }
}
