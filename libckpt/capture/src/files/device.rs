//! Character devices without state; terminals.
use super::{Context, FoundFile, path, terminal};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use nix::sys::stat::{major, minor};
use std::os::unix::fs::MetadataExt;

const TTY_MAJORS: [u64; 3] = [4, 5, 204];
const PTY_SLAVES: std::ops::RangeInclusive<u64> = 136..=143;
/// Minor numbers of null, zero, full, random, urandom of major 1.
const STATELESS: [u64; 5] = [3, 5, 7, 8, 9];

/// Saves a character device.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let rdev = file.meta.rdev();
    let number = (major(rdev), minor(rdev));
    if number.0 == 1 && STATELESS.contains(&number.1) {
        let is_gone = file.link.ends_with(b" (deleted)");
        let path = if is_gone { path::name(context, file)? } else { file.link.clone() };
        return Ok(FileKindV1::Device { path, rdev });
    }
    if is_any_terminal(file) {
        return terminal::describe(context, file);
    }
    Err(context.unsupported(
        file,
        format!("device {}:{} has a state of its own that cannot be saved", number.0, number.1),
        "Close the device before saving",
    ))
}

/// A terminal, /dev/tty and the masters of pseudo terminals among them.
pub(super) fn is_any_terminal(file: &FoundFile) -> bool {
    let is_device = file.meta.mode() & libc::S_IFMT == libc::S_IFCHR;
    let major = major(file.meta.rdev());
    let is_handle = file.info.flags & libc::O_PATH.unsigned_abs() != 0;
    is_device && !is_handle && (TTY_MAJORS.contains(&major) || PTY_SLAVES.contains(&major))
}

/// /dev/ptmx, opened: the master of a pseudo terminal.
pub(super) fn is_master(file: &FoundFile) -> bool {
    let rdev = file.meta.rdev();
    is_any_terminal(file) && (major(rdev), minor(rdev)) == (5, 2)
}
