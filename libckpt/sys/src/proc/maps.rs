//! /proc/PID/maps and /proc/PID/smaps.
use super::{malformed, read};
use crate::error::SysResult;
use std::ops::Range;

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: u64,
    /// First byte after.
    pub end: u64,
    /// PROT_*.
    pub prot: u32,
    /// MAP_SHARED.
    pub shared: bool,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Device of the file: major, minor.
    pub device: (u32, u32),
    /// Inode of the file; 0 for none.
    pub inode: u64,
    /// Path or name in brackets, as the kernel gives it, unescaped, without ` (deleted)`.
    pub path: Vec<u8>,
    /// The file has no name any more.
    pub deleted: bool,
    /// The two-letter flags of `VmFlags`; empty when read from maps.
    pub vm_flags: Vec<[u8; 2]>,
    /// Protection key; 0 when read from maps.
    pub protection_key: u8,
    /// Bytes of a page that is huge (hugetlbfs); 0 for ordinary pages, or when read from maps.
    pub page_size: u64,
}

impl Mapping {
    /// Its addresses.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether `VmFlags` has this flag.
    #[must_use]
    pub fn has_flag(&self, flag: &[u8; 2]) -> bool {
        self.vm_flags.contains(flag)
    }
}

/// The mappings of `pid` by rising address, without `VmFlags`.
pub fn maps(pid: i32) -> SysResult<Vec<Mapping>> {
    parse(&read(pid, "maps")?).ok_or_else(|| malformed("parse of maps", pid))
}

/// The mappings of `pid` by rising address, with `VmFlags`.
pub fn smaps(pid: i32) -> SysResult<Vec<Mapping>> {
    parse(&read(pid, "smaps")?).ok_or_else(|| malformed("parse of smaps", pid))
}

/// The mapping of `pid` with this name, such as `[vdso]`.
pub fn find_special(pid: i32, name: &[u8]) -> SysResult<Option<Range<u64>>> {
    Ok(maps(pid)?.iter().find(|mapping| mapping.path == name).map(Mapping::range))
}

fn parse(text: &[u8]) -> Option<Vec<Mapping>> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            let words = flags.split(u8::is_ascii_whitespace).filter_map(|word| word.try_into().ok());
            let last = found.last_mut()?;
            last.vm_flags = words.collect();
            if !last.has_flag(b"ht") {
                last.page_size = 0;
            }
        } else if let Some(size) = line.strip_prefix(b"KernelPageSize:") {
            let size = std::str::from_utf8(size).ok()?.trim().strip_suffix(" kB")?;
            found.last_mut()?.page_size = size.parse::<u64>().ok()? << 10;
        } else if let Some(key) = line.strip_prefix(b"ProtectionKey:") {
            found.last_mut()?.protection_key = std::str::from_utf8(key).ok()?.trim().parse().ok()?;
        } else if line.first()?.is_ascii_hexdigit() && !line.first()?.is_ascii_uppercase() {
            found.push(parse_line(line)?);
        }
    }
    Some(found)
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail.strip_prefix(b" ").unwrap_or(tail);
        std::str::from_utf8(word).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = word()?.split_once('-')?;
    let perms = word()?.as_bytes();
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let inode = word()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    let (path, deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let bit = |at: usize, letter: u8, value: i32| {
        if perms.get(at) == Some(&letter) { value.unsigned_abs() } else { 0 }
    };
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        prot: bit(0, b'r', libc::PROT_READ) | bit(1, b'w', libc::PROT_WRITE) | bit(2, b'x', libc::PROT_EXEC),
        shared: perms.get(3) == Some(&b's'),
        offset,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: unescape(path),
        deleted,
        vm_flags: Vec::new(),
        protection_key: 0,
        page_size: 0,
    })
}

/// Undoes the kernel's octal escapes (`\012` for a newline).
#[must_use]
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let octal = text.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) if byte == b'\\' => {
                plain.push(value);
                at += 4;
            }
            _ => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_smaps() {
        let text = b"7f00-8f00 rw-s 00001000 fe:01 42                  /a b\\012c (deleted)\nSize: 4 kB\nVmFlags: rd wr sh mr \n";
        let found = parse(text).unwrap();
        assert_eq!(found.len(), 1);
        let mapping = &found[0];
        assert_eq!((mapping.start, mapping.end, mapping.offset), (0x7f00, 0x8f00, 0x1000));
        assert_eq!(mapping.prot, 3);
        assert!(mapping.shared && mapping.deleted && mapping.has_flag(b"sh"));
        assert_eq!(mapping.path, b"/a b\nc");
        assert_eq!(mapping.device, (0xfe, 1));
    }

    #[test]
    fn own_maps_have_a_vdso_and_flags() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(find_special(pid, b"[vdso]").unwrap().is_some());
        assert!(smaps(pid).unwrap().iter().all(|mapping| !mapping.vm_flags.is_empty()));
    }
}
