//! fanotify(7): groups and their marks.
use crate::error::{SysError, SysResult};
use crate::pidfd::{owned, word};
use crate::raw::syscall;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// FAN_MARK_*.
#[allow(missing_docs)]
pub mod mark {
    pub const ADD: u32 = 0x1;
    pub const DONT_FOLLOW: u32 = 0x4;
    pub const MOUNT: u32 = 0x10;
    pub const IGNORED_MASK: u32 = 0x20;
    pub const IGNORED_SURV_MODIFY: u32 = 0x40;
    pub const FILESYSTEM: u32 = 0x100;
    pub const EVICTABLE: u32 = 0x200;
    pub const IGNORE: u32 = 0x400;
}

/// FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM, FAN_PRE_ACCESS: events that somebody waits for an answer to.
pub const PERMISSION_EVENTS: u64 = 0x17_0000;

/// A new group.
pub fn init(flags: u32, event_flags: u32) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_fanotify_init, [u64::from(flags), u64::from(event_flags), 0, 0, 0, 0]) }
        .map(owned)
        .map_err(|errno| SysError::new("fanotify_init", "a group", errno))
}

/// Adds a mark.
pub fn add_mark(group: BorrowedFd<'_>, flags: u32, mask: u64, path: &[u8]) -> Result<(), Errno> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let at = u64::try_from(path.as_ptr().expose_provenance()).unwrap_or(0);
    let flags = u64::from(flags | mark::ADD);
    // SAFETY: `path` is a C string.
    unsafe {
        syscall(libc::SYS_fanotify_mark, [word(group.as_raw_fd()), flags, mask, word(libc::AT_FDCWD), at, 0])
    }
    .map(drop)
}
