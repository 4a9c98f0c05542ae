//! eventfd(2).
use crate::error::RestoreResult;
use ckpt_sys::SysError;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::OwnedFd;

/// Makes an eventfd.
pub(super) fn make(count: u64, semaphore: bool) -> RestoreResult<OwnedFd> {
    let semaphore = if semaphore { EfdFlags::EFD_SEMAPHORE } else { EfdFlags::empty() };
    let event = EventFd::from_value_and_flags(0, semaphore | EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|errno| SysError::new("eventfd", "a counter", errno))?;
    if count > 0 {
        event.write(count).map_err(|errno| SysError::new("write", "an eventfd", errno))?;
    }
    Ok(event.into())
}
