//! A hierarchy mounted nowhere: fsopen(2), fsconfig(2), fsmount(2).
use crate::error::{SysError, SysResult};
use crate::pidfd::owned;
use crate::raw::syscall;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

const FSOPEN_CLOEXEC: u64 = 1;
const FSMOUNT_CLOEXEC: u64 = 1;
const FSCONFIG_SET_FLAG: u64 = 0;
const FSCONFIG_SET_STRING: u64 = 1;
const FSCONFIG_CMD_CREATE: u64 = 6;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;

/// The root of the hierarchy with this name. The mount goes with the descriptor.
pub(super) fn mount(name: &str) -> SysResult<OwnedFd> {
    let failed = |call| {
        let object = if name.is_empty() { "cgroup2".to_owned() } else { format!("cgroup ({name})") };
        move |errno: Errno| SysError::new(call, object, errno)
    };
    let kind = c_text(if name.is_empty() { "cgroup2" } else { "cgroup" });
    // SAFETY: a C string.
    let context = unsafe { syscall(libc::SYS_fsopen, [address(&kind), FSOPEN_CLOEXEC, 0, 0, 0, 0]) };
    let context = owned(context.map_err(failed("fsopen"))?);
    let words: Vec<&str> = name.split(',').filter(|word| !word.is_empty()).collect();
    if !words.is_empty() && words.iter().all(|word| word.starts_with("name=")) {
        configure(&context, FSCONFIG_SET_FLAG, Some("none"), None).map_err(failed("fsconfig"))?;
    }
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => configure(&context, FSCONFIG_SET_STRING, Some(key), Some(value)),
            None => configure(&context, FSCONFIG_SET_FLAG, Some(word), None),
        }
        .map_err(failed("fsconfig"))?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None, None).map_err(failed("fsconfig"))?;
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let fd = u64::from(context.as_raw_fd().unsigned_abs());
    // SAFETY: no pointers.
    let mounted = unsafe { syscall(libc::SYS_fsmount, [fd, FSMOUNT_CLOEXEC, attributes, 0, 0, 0]) };
    Ok(owned(mounted.map_err(failed("fsmount"))?))
}

fn configure(context: &OwnedFd, command: u64, key: Option<&str>, value: Option<&str>) -> Result<u64, Errno> {
    let (key, value) = (key.map(c_text), value.map(c_text));
    let at = |text: &Option<CString>| text.as_ref().map_or(0, address);
    let fd = u64::from(context.as_raw_fd().unsigned_abs());
    // SAFETY: C strings or null pointers.
    unsafe { syscall(libc::SYS_fsconfig, [fd, command, at(&key), at(&value), 0, 0]) }
}

fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

fn address(text: &CString) -> u64 {
    u64::try_from(text.as_ptr().expose_provenance()).unwrap_or(0)
}
