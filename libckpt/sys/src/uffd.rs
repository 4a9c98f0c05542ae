//! userfaultfd(2) for asynchronous write-protection: the part of it that dirty tracking needs.
//!
//! A userfaultfd belongs to the address space of the process that made it; whoever holds the descriptor may register and
//! unregister mappings of that address space. Closing the last descriptor undoes all of it.
use crate::error::{SysError, SysResult};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

const UFFD_API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
const REGISTER_MODE_WP: u64 = 1 << 1;
/// Flags of userfaultfd(2): close on exec and user-mode faults only, which needs no privilege.
pub const O_CLOEXEC: u64 = 0o2_000_000;
/// UFFD_USER_MODE_ONLY.
pub const USER_MODE_ONLY: u64 = 1;

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

/// Agrees on the features of a new userfaultfd: asynchronous write-protection of every kind of memory.
///
/// # Errors
/// EINVAL: the kernel lacks a feature (WP_ASYNC came with 6.7), or the handshake was made before.
pub fn enable_wp_async(fd: BorrowedFd<'_>) -> SysResult<()> {
    let features = feature::PAGEFAULT_FLAG_WP | feature::WP_HUGETLBFS_SHMEM | feature::WP_ASYNC;
    let mut arg = [UFFD_API, features, 0];
    ioctl(fd, UFFDIO_API, "ioctl(UFFDIO_API, WP_ASYNC)", "userfaultfd", &mut arg)
}

/// Registers `range` for write-protection; mappings in it that cannot be tracked make it fail with EINVAL.
pub fn register_wp(fd: BorrowedFd<'_>, range: Range<u64>) -> SysResult<()> {
    let object = format!("{:#x}-{:#x}", range.start, range.end);
    let mut arg = [range.start, range.end - range.start, REGISTER_MODE_WP, 0];
    ioctl(fd, UFFDIO_REGISTER, "ioctl(UFFDIO_REGISTER)", &object, &mut arg)
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
