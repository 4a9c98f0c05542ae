//! Character devices without state, and terminals that the job was started at.
use super::{Context, FoundFile, stdio};
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
        return Ok(FileKindV1::Device { path: file.path().to_vec(), rdev });
    }
    if is_terminal(file) {
        return stdio::describe(
            context,
            file,
            |_| "terminals cannot be saved yet".into(),
            "Close it, or redirect the program's output",
        );
    }
    Err(context.unsupported(
        file,
        format!("device {}:{} has a state of its own that cannot be saved", number.0, number.1),
        "Close the device before saving",
    ))
}

/// A terminal, /dev/tty among them.
pub(super) fn is_terminal(file: &FoundFile) -> bool {
    let is_device = file.meta.mode() & libc::S_IFMT == libc::S_IFCHR;
    let major = major(file.meta.rdev());
    // Major 5 minor 2 is the master of a pseudo terminal: the job is the terminal there.
    is_device
        && (TTY_MAJORS.contains(&major) || PTY_SLAVES.contains(&major))
        && (major, minor(file.meta.rdev())) != (5, 2)
}
