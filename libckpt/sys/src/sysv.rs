//! What the kinds of System V objects have in common.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;

/// A line of a list in /proc/sysvipc: `key id perms`, and numbers of the kind's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: i32,
    pub(crate) id: i32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) rest: Vec<u64>,
}

/// The list of a kind of object of our IPC namespace.
pub(crate) fn list(path: &'static str) -> SysResult<Vec<Entry>> {
    let text = std::fs::read_to_string(path).map_err(|error| SysError::new("read", path, error))?;
    Ok(text.lines().skip(1).filter_map(parse).collect())
}

pub(crate) fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    Some(Entry {
        key: words.next()?.parse().ok()?,
        id: words.next()?.parse().ok()?,
        mode: u32::from_str_radix(words.next()?, 8).ok()? & 0o777,
        rest: words.map(|word| word.parse().ok()).collect::<Option<_>>()?,
    })
}

/// Whether an error says that an object is not there any more.
#[must_use]
pub fn is_missing(error: &SysError) -> bool {
    matches!(error.errno(), Some(Errno::EINVAL | Errno::EIDRM))
}
