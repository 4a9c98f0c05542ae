//! Notes on directories: extended attributes, which groups of version 2 have since Linux 5.7.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c_texts(path: &Path, name: &str) -> SysResult<(CString, CString)> {
    let text = |bytes: &[u8]| CString::new(bytes);
    let invalid = |_| SysError::new("setxattr", path.display().to_string(), Errno::EINVAL);
    Ok((text(path.as_os_str().as_bytes()).map_err(invalid)?, text(name.as_bytes()).map_err(invalid)?))
}

/// Makes a note of this name on a directory, or takes it away.
pub fn set_note(path: &Path, name: &str, there: bool) -> SysResult<()> {
    let (at, note) = c_texts(path, name)?;
    // SAFETY: C strings, and a value of one byte.
    let outcome = unsafe {
        if there {
            libc::setxattr(at.as_ptr(), note.as_ptr(), b"1".as_ptr().cast(), 1, 0)
        } else {
            libc::removexattr(at.as_ptr(), note.as_ptr())
        }
    };
    if outcome == 0 { Ok(()) } else { Err(SysError::last("setxattr", path.display().to_string())) }
}

/// Whether a directory has a note of this name.
#[must_use]
pub fn has_note(path: &Path, name: &str) -> bool {
    // SAFETY: C strings, and no room for a value.
    c_texts(path, name).is_ok_and(|(at, note)| unsafe {
        libc::getxattr(at.as_ptr(), note.as_ptr(), std::ptr::null_mut(), 0) >= 0
    })
}
