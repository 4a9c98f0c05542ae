//! signalfd(2).
use crate::error::RestoreResult;
use ckpt_sys::SysError;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Makes a signalfd. It reads the signals of whoever reads it.
pub(super) fn make(mask: u64) -> RestoreResult<OwnedFd> {
    // SAFETY: `mask` is the kernel's own signal set, with its size.
    let fd = unsafe {
        libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, size_of::<u64>(), libc::SFD_CLOEXEC)
    };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just returned this descriptor to us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::last("signalfd", format!("signals {mask:#x}")).into()),
    }
}
