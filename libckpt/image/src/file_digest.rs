//! What tells the contents of a file from others'.
use crate::record::FileDigestV1;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of one piece, and how many of them are looked at.
const PIECE: u64 = 1 << 20;
const PIECES: u64 = 16;
/// Most bytes of notes, and most program headers, that an ELF file is believed to have.
const NOTES_MAX: u64 = 1 << 16;
const HEADERS_MAX: u16 = 256;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// The digest of a regular file, and how many bytes were read for it: its build-id, if it is an ELF file that has one.
///
/// # Errors
/// What reading it says.
pub fn file_digest(file: &File) -> io::Result<(FileDigestV1, u64)> {
    if let Some(id) = build_id(file)? {
        return Ok((FileDigestV1::BuildId(id), 0));
    }
    let size = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    let mut buffer = vec![0; usize::try_from(PIECE.min(size)).unwrap_or(0)];
    let mut bytes = 0;
    for (start, end) in pieces(size) {
        let piece = &mut buffer[..usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(piece, start)?;
        hasher.update(piece);
        bytes += end - start;
    }
    Ok((FileDigestV1::Blake3(*hasher.finalize().as_bytes()), bytes))
}

/// First byte and first byte after of the pieces of a file that count.
fn pieces(size: u64) -> impl Iterator<Item = (u64, u64)> {
    let whole = size <= PIECE * PIECES;
    let count = if whole { size.div_ceil(PIECE) } else { PIECES };
    (0..count).map(move |piece| {
        let start = if whole { piece * PIECE } else { place(size - PIECE, piece) };
        (start, (start + PIECE).min(size))
    })
}

/// The multiple of 4096 at or before `piece` of fifteen parts of `last`; `last` itself for the last.
fn place(last: u64, piece: u64) -> u64 {
    if piece == PIECES - 1 { last } else { last / (PIECES - 1) * piece / 4096 * 4096 }
}

/// The build-id of an ELF file for a little-endian machine. What is no such file, or has none, has None.
fn build_id(file: &File) -> io::Result<Option<Vec<u8>>> {
    let Some(header) = read(file, 0, 64)? else { return Ok(None) };
    if !header.starts_with(b"\x7fELF") || header[5] != 1 {
        return Ok(None);
    }
    let wide = header[4] == 2;
    let (table, size_at) =
        if wide { (u64_at(&header, 32), 54) } else { (u64::from(u32_at(&header, 28)), 42) };
    let (entry, count) = (u16_at(&header, size_at), u16_at(&header, size_at + 2));
    if entry < 32 || (wide && entry < 56) || count > HEADERS_MAX {
        return Ok(None);
    }
    for number in 0..u64::from(count) {
        let at = table.saturating_add(number * u64::from(entry));
        let Some(segment) = read(file, at, u64::from(entry))? else { return Ok(None) };
        let (offset, length) = if wide {
            (u64_at(&segment, 8), u64_at(&segment, 32))
        } else {
            (u64::from(u32_at(&segment, 4)), u64::from(u32_at(&segment, 16)))
        };
        if u32_at(&segment, 0) != PT_NOTE || length > NOTES_MAX {
            continue;
        }
        if let Some(notes) = read(file, offset, length)?
            && let Some(id) = find_build_id(&notes)
        {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Notes are lengths of name and contents, type, name, contents; name and contents are filled up to multiples of 4.
fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    while notes.len() >= 12 {
        let (name, length, kind) = (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8));
        let name_end = 12usize.checked_add(usize::try_from(name).ok()?.checked_next_multiple_of(4)?)?;
        let end = name_end.checked_add(usize::try_from(length).ok()?)?;
        let contents = notes.get(name_end..end)?;
        if kind == NT_GNU_BUILD_ID && notes[12..].starts_with(b"GNU\0") && !contents.is_empty() {
            return Some(contents.to_vec());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}

/// None: the file ends before.
fn read(file: &File, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        // An offset that no file can have.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_files_of_all_sizes() {
        assert_eq!(pieces(0).count(), 0);
        assert_eq!(pieces(5).collect::<Vec<_>>(), [(0, 5)]);
        assert_eq!(pieces(PIECE + 1).collect::<Vec<_>>(), [(0, PIECE), (PIECE, PIECE + 1)]);
        let size = 1000 * PIECE + 17;
        let large: Vec<_> = pieces(size).collect();
        assert_eq!((large.len(), large[0].0, large[15].1), (16, 0, size));
        assert!(large.windows(2).all(|pair| pair[0].1 < pair[1].0));
        let barely: Vec<_> = pieces(PIECE * PIECES + 1).collect();
        assert_eq!((barely.len(), barely[15].1), (16, PIECE * PIECES + 1));
    }

    #[test]
    fn a_change_of_contents_or_size_changes_the_digest() {
        let digest = |contents: &[u8]| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(contents, 0).unwrap();
            file_digest(&file).unwrap().0
        };
        assert_eq!(digest(b"contents"), digest(b"contents"));
        assert_ne!(digest(b"contents"), digest(b"kontents"));
        assert_ne!(digest(b""), digest(b"\0"));
        // Not an ELF file, though it begins as one.
        assert!(matches!(digest(b"\x7fELF\x02\x01"), FileDigestV1::Blake3(_)));
    }

    #[test]
    fn this_program_has_the_build_id_that_its_notes_say() {
        let notes = [
            &4u32.to_le_bytes()[..],
            &3u32.to_le_bytes(),
            &1u32.to_le_bytes(),
            b"GNU\0",
            b"abc\0",
            &4u32.to_le_bytes(),
            &2u32.to_le_bytes(),
            &3u32.to_le_bytes(),
            b"GNU\0",
            b"\xab\xcd",
        ];
        assert_eq!(find_build_id(&notes.concat()), Some(vec![0xab, 0xcd]));
        assert_eq!(find_build_id(&[0xff; 64]), None);
    }
}
