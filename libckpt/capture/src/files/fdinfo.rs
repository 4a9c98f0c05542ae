//! /proc/PID/fdinfo/N.
use ckpt_image::record::{FileLockV1, LockClassV1};
use std::sync::Arc;

/// What fdinfo says of a descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FdInfo {
    /// File position, bytes.
    pub(crate) position: u64,
    /// O_*, O_CLOEXEC among them when the descriptor has FD_CLOEXEC.
    pub(crate) flags: u32,
    inode: Option<Identity>,
    eventfd: Option<Identity>,
    text: Arc<str>,
}

/// What tells an object from others, as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// Of an inode: its mount and its number.
    Inode(u64, u64),
    /// Of an eventfd: its id.
    Eventfd(u64),
}

impl FdInfo {
    /// Reads the text of fdinfo.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut info = Self { text: text.into(), ..Self::default() };
        let inode = info.number("mnt_id").zip(info.number("ino"));
        info.inode = inode.map(|(mount, inode)| Identity::Inode(mount, inode));
        info.eventfd = info.number("eventfd-id").map(Identity::Eventfd);
        info.position = u64::try_from(info.field("pos")?.parse::<i64>().ok()?).unwrap_or(0);
        info.flags = u32::from_str_radix(info.field("flags")?, 8).ok()?;
        Some(info)
    }

    /// The value of the line `NAME: VALUE`.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// What tells the object of a descriptor with this link from others; None: only that it has this link (all without a file share one inode).
    pub(crate) fn identity(&self, link: &[u8]) -> Option<Identity> {
        if link.starts_with(b"anon_inode:") { self.eventfd } else { self.inode }
    }

    /// Whether it was read from this text.
    pub(crate) fn is_of(&self, text: &[u8]) -> bool {
        self.text.as_bytes() == text
    }

    /// The lines that begin with `prefix`, without it.
    pub(crate) fn lines<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| line.strip_prefix(prefix)).map(str::trim)
    }

    /// The locks that are shown, as [`parse_lock`] reads them: without the numbers that the lines have.
    pub(crate) fn locks(&self) -> Vec<String> {
        self.lines("lock:").filter_map(|line| Some(line.split_once(':')?.1.trim().to_owned())).collect()
    }

    /// FD_CLOEXEC.
    pub(crate) fn cloexec(&self) -> bool {
        self.flags & libc::O_CLOEXEC.unsigned_abs() != 0
    }

    /// What open(2) and fcntl(F_SETFL) know of the flags.
    pub(crate) fn status_flags(&self) -> u32 {
        self.flags & !libc::O_CLOEXEC.unsigned_abs()
    }

    /// O_RDONLY, O_WRONLY or O_RDWR.
    pub(crate) fn access(&self) -> i32 {
        self.flags.cast_signed() & libc::O_ACCMODE
    }

    /// It can be read.
    pub(crate) fn readable(&self) -> bool {
        self.access() != libc::O_WRONLY
    }

    /// It can be written.
    pub(crate) fn writable(&self) -> bool {
        self.access() != libc::O_RDONLY
    }
}

/// Reads what follows `lock:` and a number in fdinfo: `POSIX  ADVISORY  WRITE 4711 fe:01:42 0 EOF`. The error is the class of a lock that cannot be
/// saved (a delegation).
pub(crate) fn parse_lock(line: &str) -> Result<FileLockV1, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [class, state, access, pid, _, start, end] = words[..] else { return Err(line.to_owned()) };
    let class = match class {
        "LEASE" => match (state, access) {
            ("ACTIVE", _) => LockClassV1::Lease,
            ("BREAKING", "READ") => LockClassV1::LeaseToRead,
            _ => LockClassV1::LeaseToNone,
        },
        "FLOCK" => LockClassV1::Flock,
        "POSIX" => LockClassV1::Posix,
        "OFDLCK" => LockClassV1::Ofd,
        other => return Err(other.to_ascii_lowercase()),
    };
    let exclusive = match access {
        "WRITE" => true,
        "READ" => false,
        "UNLCK" if class == LockClassV1::LeaseToNone => false,
        other => return Err(other.to_ascii_lowercase()),
    };
    let start: u64 = start.parse().map_err(|_| line.to_owned())?;
    let len = match end {
        "EOF" => 0,
        end => end.parse::<u64>().map_err(|_| line.to_owned())?.saturating_sub(start).saturating_add(1),
    };
    let pid = if class == LockClassV1::Posix { pid.parse().map_err(|_| line.to_owned())? } else { 0 };
    Ok(FileLockV1 { class, exclusive, start, len, pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_flags_and_fields() {
        let text = "pos:\t42\nflags:\t02100002\nmnt_id:\t15\nino:\t7\neventfd-count:               2a\n";
        let info = FdInfo::parse(text).unwrap();
        assert_eq!(info.position, 42);
        assert!(info.cloexec() && info.readable() && info.writable());
        assert_eq!(info.status_flags(), libc::O_RDWR.unsigned_abs() | 0o100_000);
        assert_eq!(info.field("eventfd-count"), Some("2a"));
        assert_eq!(info.field("eventfd"), None);
        assert_eq!(info.identity(b"/somewhere"), Some(Identity::Inode(15, 7)));
        assert_eq!(info.identity(b"anon_inode:[timerfd]"), None);
        assert!(FdInfo::parse("pos:\t1\n").is_none());
    }

    #[test]
    fn locks_of_every_class() {
        let posix = parse_lock("POSIX  ADVISORY  WRITE 4711 fe:01:42 100 199").unwrap();
        assert_eq!(
            (posix.class, posix.exclusive, posix.start, posix.len, posix.pid),
            (LockClassV1::Posix, true, 100, 100, 4711)
        );
        let flock = parse_lock("FLOCK  ADVISORY  READ 4711 fe:01:42 0 EOF").unwrap();
        assert_eq!((flock.class, flock.exclusive, flock.len, flock.pid), (LockClassV1::Flock, false, 0, 0));
        let ofd = parse_lock("OFDLCK ADVISORY  READ -1 fe:01:42 5 EOF").unwrap();
        assert_eq!((ofd.class, ofd.start, ofd.pid), (LockClassV1::Ofd, 5, 0));
        let lease = parse_lock("LEASE  ACTIVE    WRITE 4711 fe:01:42 0 EOF").unwrap();
        assert_eq!((lease.class, lease.exclusive, lease.pid), (LockClassV1::Lease, true, 0));
        let breaking =
            |access| parse_lock(&format!("LEASE  BREAKING  {access} 4711 fe:01:42 0 EOF")).unwrap();
        assert_eq!(breaking("READ").class, LockClassV1::LeaseToRead);
        assert_eq!(breaking("UNLCK").class, LockClassV1::LeaseToNone);
        assert_eq!(parse_lock("DELEG  ACTIVE    READ 4711 fe:01:42 0 EOF"), Err("deleg".into()));
    }
}
