//! The files that AF_UNIX sockets are bound to.
use crate::error::{CaptureError, CaptureResult};
use crate::files::path;
use crate::namespaces::Further;
use ckpt_image::record::SocketFileV1;
use ckpt_sys::unix_diag::{self, UnixSocket};
use ckpt_sys::{SysError, proc};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

/// The file that a socket of process `pid` with the name `local` is bound to, if it still has a path.
pub(super) fn bound(
    further: &Further,
    fd: BorrowedFd<'_>,
    pid: i32,
    local: &[u8],
    diag: &UnixSocket,
) -> CaptureResult<Option<SocketFileV1>> {
    let name = local.get(2..).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default();
    let Some((_, inode)) = diag.file.filter(|_| !name.is_empty()) else { return Ok(None) };
    if further.mounts_of(pid).is_some() {
        let looked_up = std::fs::metadata(further.seen(pid, name)).is_ok_and(|found| {
            found.ino() & u64::from(u32::MAX) == inode && !further.is_hidden(pid, name, &found)
        });
        if !looked_up {
            let name = String::from_utf8_lossy(name);
            return Err(CaptureError::unsupported(
                pid,
                format!("the AF_UNIX socket that is bound to {name}"),
                "its file is in a mount namespace that the job's root is not in, which cannot be saved yet",
                "Let the program bind it where the job's root finds it, too, or give it an abstract name",
            ));
        }
    }
    match unix_diag::bound_file(fd) {
        Ok(Some(file)) => by_file(&File::from(file), pid, name),
        Ok(None) => Ok(None),
        Err(error) if matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES)) => {
            Ok(by_name(pid, name, inode))
        }
        Err(error) => Err(error.into()),
    }
}

fn by_file(file: &File, pid: i32, name: &[u8]) -> CaptureResult<Option<SocketFileV1>> {
    let failed = |error| SysError::new("fstat", "the file of a socket", error);
    let meta = file.metadata().map_err(failed)?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let path = link.map_err(failed)?.into_os_string().into_vec();
    if found_at(&path).is_none_or(|found| (found.dev(), found.ino()) != (meta.dev(), meta.ino())) {
        return Ok(None);
    }
    let directory = match name.first() {
        Some(b'/') => Vec::new(),
        _ => directory_of(pid, &path, name, &meta),
    };
    Ok(Some(describe(path, directory, &meta)))
}

/// The directory from which a relative name leads to a path; empty: from none that is known.
fn directory_of(pid: i32, path: &[u8], name: &[u8], meta: &Metadata) -> Vec<u8> {
    if let Some(directory) = path.strip_suffix(name).and_then(|rest| rest.strip_suffix(b"/")) {
        return if directory.is_empty() { b"/".to_vec() } else { directory.to_vec() };
    }
    let Ok(cwd) = proc::read_link(pid, "cwd") else { return Vec::new() };
    let cwd = cwd.into_os_string().into_vec();
    let found = found_at(&[&cwd, b"/".as_slice(), name].concat());
    if found.is_some_and(|found| (found.dev(), found.ino()) == (meta.dev(), meta.ino())) {
        cwd
    } else {
        Vec::new()
    }
}

/// Without the kernel's help: at its name, or nowhere.
fn by_name(pid: i32, name: &[u8], inode: u64) -> Option<SocketFileV1> {
    let directory = match name.first() {
        Some(b'/') => Vec::new(),
        _ => proc::read_link(pid, "cwd").ok()?.into_os_string().into_vec(),
    };
    let path =
        if directory.is_empty() { name.to_vec() } else { [&directory, b"/".as_slice(), name].concat() };
    let meta = found_at(&path)?;
    let same = meta.ino() & u64::from(u32::MAX) == inode && meta.mode() & libc::S_IFMT == libc::S_IFSOCK;
    same.then(|| describe(path, directory, &meta))
}

fn found_at(path: &[u8]) -> Option<Metadata> {
    std::fs::symlink_metadata(OsStr::from_bytes(path)).ok()
}

fn describe(path: Vec<u8>, directory: Vec<u8>, meta: &Metadata) -> SocketFileV1 {
    SocketFileV1 { path, directory, ident: path::ident(meta), owner: (meta.uid(), meta.gid()) }
}
