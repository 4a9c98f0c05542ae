//! Regular files, directories, O_PATH handles; unlinked files.
use super::Maker;
use super::common::{open_flags, show};
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FileIdent, GhostId, OpenFileV1};
use ckpt_sys::canonical::Refusal;
use ckpt_sys::{SysError, descriptor};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// Opens the file again.
pub(super) fn make(
    maker: &mut Maker<'_, '_>,
    file: &OpenFileV1,
    path: &[u8],
    ident: &FileIdent,
    ghost: Option<GhostId>,
) -> RestoreResult<OwnedFd> {
    if let Some(ghost) = ghost {
        let link = maker.contents.ghost_link(maker.image, ghost)?;
        let flags = open_flags(file) & !libc::O_NOFOLLOW;
        let opened = descriptor::open(&link, flags, 0);
        return Ok(opened.map_err(|errno| SysError::new("open", show(&link), errno))?);
    }
    if let Some(opened) = maker.contents.nameless.take(file.id) {
        return Ok(opened);
    }
    let holder = maker.sites.iter().find_map(|site| {
        let fd = site.table.fds.iter().find(|fd| fd.file == file.id)?;
        Some(format!("descriptor {} of pid {}", fd.fd, site.builder.remote.pid()))
    });
    let who = holder.unwrap_or_else(|| "the program".to_owned());
    match maker.contents.nameless.link(file.id) {
        Some(link) => open(link, open_flags(file) & !libc::O_NOFOLLOW, ident.mode, &who),
        None => {
            let found = maker.further.seen_for(file.id, path);
            open(&found, open_flags(file), ident.mode, &who)
        }
    }
}

/// Opens a file that must be there and be of the same type; `mode` is what it had, `who` has it.
pub(super) fn open(path: &[u8], flags: i32, mode: u32, who: &str) -> RestoreResult<OwnedFd> {
    let refuse =
        |reason: String, remedy: &str| RestoreError::File { path: show(path), reason, remedy: remedy.into() };
    let opened = match canonical::open(path, flags) {
        // Only the owner may ask for it; all else is the same without.
        Err(Refusal::Errno(Errno::EPERM)) if flags & libc::O_NOATIME != 0 => {
            canonical::open(path, flags & !libc::O_NOATIME)
        }
        other => other,
    };
    let fd = opened.map_err(|refusal| match refusal.errno() {
        _ if matches!(refusal, Refusal::Link { .. }) => canonical::failed("open", path, &refusal),
        Errno::ENOENT | Errno::ENOTDIR => refuse(
            format!("{who} has it open, and it is not there any more"),
            "Put it back and restore again",
        ),
        Errno::EACCES | Errno::EPERM => refuse(
            format!("{who} has it open, and it may not be opened ({})", refusal.errno()),
            "Restore as the user who may, or as root",
        ),
        errno => refuse(
            format!("{who} has it open, and it cannot be opened: {errno}"),
            "Remove the cause and restore again",
        ),
    })?;
    let file = File::from(fd);
    let now = file.metadata().map_err(|error| SysError::new("fstat", show(path), error))?;
    if now.mode() & libc::S_IFMT != mode & libc::S_IFMT {
        return Err(refuse(
            format!("{who} has it open, and it is another kind of file than it was"),
            "Put the file back and restore again",
        ));
    }
    Ok(file.into())
}
