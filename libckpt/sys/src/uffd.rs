//! userfaultfd(2): what dirty tracking needs of it, and what the instances of programs need to be saved and made again.
//!
//! A userfaultfd belongs to the address space of the process that made it; whoever holds the descriptor may register and
//! unregister mappings of that address space. Closing the last descriptor undoes all of it.
use crate::error::{SysError, SysResult};
use crate::raw;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const UFFD_API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
const WRITEPROTECT_MODE_WP: u64 = 1;
/// UFFD_FEATURE_INITIALIZED: how the kernel notes that the handshake was made.
const INITIALIZED: u64 = 1 << 31;
/// UFFDIO_MOVE (Linux 6.8): for the address space of the caller only, see [`move_nothing`].
pub const UFFDIO_MOVE: u64 = 0xc028_aa05;
/// Flags of userfaultfd(2): close on exec and user-mode faults only, which needs no privilege.
pub const O_CLOEXEC: u64 = 0o2_000_000;
/// UFFD_USER_MODE_ONLY.
pub const USER_MODE_ONLY: u64 = 1;

/// UFFDIO_REGISTER_MODE_*.
pub mod mode {
    /// Pages that are not there.
    pub const MISSING: u64 = 1 << 0;
    /// Writes to pages that are protected.
    pub const WP: u64 = 1 << 1;
    /// Pages of shared memory that are there, and not mapped.
    pub const MINOR: u64 = 1 << 2;
}

/// UFFD_FEATURE_*.
#[allow(missing_docs)]
pub mod feature {
    pub const PAGEFAULT_FLAG_WP: u64 = 1 << 0;
    pub const EVENT_FORK: u64 = 1 << 1;
    pub const EVENT_REMAP: u64 = 1 << 2;
    pub const EVENT_REMOVE: u64 = 1 << 3;
    pub const EVENT_UNMAP: u64 = 1 << 6;
    pub const WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
    pub const WP_UNPOPULATED: u64 = 1 << 13;
    pub const WP_ASYNC: u64 = 1 << 15;
}

pub(crate) fn ioctl<T>(
    fd: BorrowedFd<'_>,
    request: u64,
    name: &'static str,
    object: &str,
    arg: &mut T,
) -> SysResult<()> {
    // SAFETY: every caller passes the structure that the request reads and writes.
    if unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(arg)) } == -1 {
        return Err(SysError::last(name, object));
    }
    Ok(())
}

/// A userfaultfd of this process, for faults of programs only; no handshake is made.
pub fn of_this_process() -> SysResult<OwnedFd> {
    let flags = [O_CLOEXEC | USER_MODE_ONLY, 0, 0, 0, 0, 0];
    // SAFETY: no pointers.
    let fd = unsafe { raw::syscall(libc::SYS_userfaultfd, flags) };
    let fd = fd.map_err(|errno| SysError::new("userfaultfd", "this process", errno))?;
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// Agrees on the features of a new userfaultfd: asynchronous write-protection of every kind of memory.
///
/// # Errors
/// EINVAL: the kernel lacks a feature (WP_ASYNC came with 6.7), or the handshake was made before.
pub fn enable_wp_async(fd: BorrowedFd<'_>) -> SysResult<()> {
    handshake(fd, feature::PAGEFAULT_FLAG_WP | feature::WP_HUGETLBFS_SHMEM | feature::WP_ASYNC)
}

/// Agrees on these features of a new userfaultfd.
///
/// # Errors
/// EINVAL: the kernel lacks a feature, or the handshake was made before. EPERM: events of fork(2) take CAP_SYS_PTRACE.
pub fn handshake(fd: BorrowedFd<'_>, features: u64) -> SysResult<()> {
    let mut arg = [UFFD_API, features, 0];
    ioctl(fd, UFFDIO_API, "ioctl(UFFDIO_API)", &format!("userfaultfd, features {features:#x}"), &mut arg)
}

/// The features that were agreed on, by the field `API` of fdinfo. None: the handshake has not been made.
#[must_use]
pub fn features(api: &str) -> Option<u64> {
    let features = api.trim().strip_prefix("aa:")?.split(':').next()?;
    let features = u64::from_str_radix(features, 16).ok()?;
    (features & INITIALIZED != 0).then_some(features & !INITIALIZED)
}

/// Registers `range` for write-protection; mappings in it that cannot be tracked make it fail with EINVAL.
pub fn register_wp(fd: BorrowedFd<'_>, range: Range<u64>) -> SysResult<()> {
    register(fd, range, mode::WP)
}

/// Registers `range` for `modes`. Nothing happens where that has been done with the same userfaultfd.
///
/// # Errors
/// EBUSY: another userfaultfd has a mapping there. EINVAL: nothing is mapped, or what cannot be registered. ENOMEM: the address space is gone.
pub fn register(fd: BorrowedFd<'_>, range: Range<u64>, modes: u64) -> SysResult<()> {
    let object = format!("{:#x}-{:#x}", range.start, range.end);
    let mut arg = [range.start, range.end - range.start, modes, 0];
    ioctl(fd, UFFDIO_REGISTER, "ioctl(UFFDIO_REGISTER)", &object, &mut arg)
}

/// The argument of an [`UFFDIO_MOVE`] of a page at `hole`, where nothing is mapped. It changes nothing: whose address space the userfaultfd is for gets
/// ENOENT, everybody else EINVAL.
#[must_use]
pub fn move_nothing(hole: u64) -> [u8; 40] {
    let mut arg = [0; 40];
    for (word, value) in arg.as_chunks_mut::<8>().0.iter_mut().zip([hole, hole, 4096]) {
        *word = value.to_ne_bytes();
    }
    arg
}

/// Protects the pages of `range`: who writes to one waits, or is told of.
pub fn protect(fd: BorrowedFd<'_>, range: Range<u64>) -> SysResult<()> {
    let object = format!("{:#x}-{:#x}", range.start, range.end);
    let mut arg = [range.start, range.end - range.start, WRITEPROTECT_MODE_WP];
    ioctl(fd, UFFDIO_WRITEPROTECT, "ioctl(UFFDIO_WRITEPROTECT)", &object, &mut arg)
}

/// Unregisters `range`: its pages are writable again without a fault.
pub fn unregister(fd: BorrowedFd<'_>, range: Range<u64>) -> SysResult<()> {
    let object = format!("{:#x}-{:#x}", range.start, range.end);
    let mut arg = [range.start, range.end - range.start];
    ioctl(fd, UFFDIO_UNREGISTER, "ioctl(UFFDIO_UNREGISTER)", &object, &mut arg)
}

/// Takes the protection from the pages of `range`, as a write to each would.
pub fn unprotect(fd: BorrowedFd<'_>, range: Range<u64>) -> SysResult<()> {
    let object = format!("{:#x}-{:#x}", range.start, range.end);
    let mut arg = [range.start, range.end - range.start, 0];
    ioctl(fd, UFFDIO_WRITEPROTECT, "ioctl(UFFDIO_WRITEPROTECT)", &object, &mut arg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_fdinfo() {
        assert_eq!(features("aa:80000003:80000000000001ff"), Some(3));
        assert_eq!(features("\taa:80000000:80000000000001ff"), Some(0));
        assert_eq!(features("aa:0:80000000000001ff"), None);
    }
}
