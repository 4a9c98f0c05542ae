//! Character devices without state; terminals.
use super::{Context, FoundFile, path, terminal, tun};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use nix::sys::stat::{major, minor};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TTY_MAJORS: [u64; 3] = [4, 5, 204];
const PTY_SLAVES: std::ops::RangeInclusive<u64> = 136..=143;
/// Minor numbers of null, zero, full, random, urandom of major 1.
const STATELESS: [u64; 5] = [3, 5, 7, 8, 9];
const NAMES: [&[u8]; 5] = [b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom"];

/// Saves a character device.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let rdev = file.meta.rdev();
    let number = (major(rdev), minor(rdev));
    if number.0 == 1 && STATELESS.contains(&number.1) {
        let is_gone = file.link.ends_with(b" (deleted)");
        let path = if is_gone { path::name(context, file)? } else { way_to(context, file)? };
        return Ok(FileKindV1::Device { path, rdev });
    }
    if tun::is_tun(file) {
        return tun::describe(context, file);
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

/// A path that leads to the device where the process is, or where the job's root is. It may have been opened before they had mounts of their own.
fn way_to(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<Vec<u8>> {
    let wanted = (file.meta.mode() & libc::S_IFMT, file.meta.rdev());
    let leads = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| (found.mode() & libc::S_IFMT, found.rdev()) == wanted)
    };
    let (further, holder) = (context.index.further(), context.index.holder(file));
    if let Some(at) = further.mounts_of(holder)
        && leads(&further.seen(holder, &file.link))
    {
        if let Some(objects) = &mut context.objects {
            objects.further_files.push((file.id, at));
        }
        return Ok(file.link.clone());
    }
    if file.leads {
        return Ok(file.link.clone());
    }
    let number = minor(file.meta.rdev());
    let usual = STATELESS.iter().position(|known| *known == number).map(|at| NAMES[at].to_vec());
    let mut paths = std::iter::once(file.link.clone()).chain(usual);
    let found = paths.find(|path| leads(Path::new(OsStr::from_bytes(path))));
    found.ok_or_else(|| {
        context.unsupported(
            file,
            "no path leads to it in the mount namespace of the job",
            "Close it before saving, or make the device there (mknod in /dev)",
        )
    })
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
