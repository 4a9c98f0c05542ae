//! Names of AF_UNIX sockets: files, and abstract names.
use super::unix_ghost;
use crate::canonical as by_path;
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use crate::files::common::show;
use ckpt_image::record::{SocketFileV1, SocketV1};
use ckpt_sys::canonical::{self, Place, Refusal};
use ckpt_sys::{SysError, SysResult, socket};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::geteuid;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Gives a socket its name.
pub(super) fn bind(maker: &mut Maker<'_, '_>, fd: BorrowedFd<'_>, record: &SocketV1) -> RestoreResult<()> {
    if record.local.is_empty() {
        return Ok(());
    }
    match &record.bound_file {
        Some(file) => bind_to_file(maker, fd, record, file),
        None if record.local.get(2) == Some(&0) => {
            socket::bind(fd, &record.local).map_err(|error| in_use(&record.local, &error))
        }
        None => bind_to_ghost(maker, fd, record),
    }
}

fn bind_to_file(
    maker: &mut Maker<'_, '_>,
    fd: BorrowedFd<'_>,
    record: &SocketV1,
    file: &SocketFileV1,
) -> RestoreResult<()> {
    let path = Path::new(OsStr::from_bytes(&file.path));
    let place = place(path)?;
    remove_stale(&place, path, record.kind)?;
    let name = record.local.get(2..).and_then(|name| name.split(|byte| *byte == 0).next());
    if file.directory.is_empty() && name != Some(&file.path) {
        unix_ghost::bind_renamed(fd, &record.local, &place.link())?;
    } else if file.directory.is_empty() {
        socket::bind(fd, &record.local).map_err(|error| in_use(&record.local, &error))?;
    } else {
        // The socket remembers the relative name that it was bound with. The process under construction may change directories.
        let local = record.local.clone();
        let len = u64::try_from(local.len()).unwrap_or(0);
        maker.in_process(0, fd, |builder, number| {
            let directory = builder.place_path(&file.directory)?;
            builder.call("chdir", &show(&file.directory), libc::SYS_chdir, &[directory.get()])?;
            let name = builder.place(&local)?;
            builder.call("bind", &show(&file.path), libc::SYS_bind, &[number, name.get(), len]).map(drop)
        })?;
    }
    let failed = |call| move |errno| SysError::new(call, path.display().to_string(), errno);
    let made = place.look().map_err(failed("open"))?;
    // Somebody else's directory may lead elsewhere meanwhile, or have another thing there.
    let is = fstat(&made).map_err(failed("fstat"))?;
    if !is_socket(&is) || is.st_uid != geteuid().as_raw() {
        return Err(refuse(path, "its place was changed while it was made", "Restore again"));
    }
    if let Err(error) = canonical::set_owner(made.as_fd(), file.owner) {
        tracing::warn!(path = %path.display(), %error, "a socket file keeps our owner");
    }
    canonical::set_mode(made.as_fd(), file.ident.mode)
        .map_err(|errno| SysError::new("chmod", path.display().to_string(), errno).into())
}

fn refuse(path: &Path, reason: &str, remedy: &str) -> RestoreError {
    RestoreError::File { path: path.display().to_string(), reason: reason.into(), remedy: remedy.into() }
}

/// The place of a socket's file.
fn place(path: &Path) -> RestoreResult<Place> {
    match by_path::place(path.as_os_str().as_bytes()) {
        Err(Refusal::Errno(Errno::ENOENT | Errno::ENOTDIR)) => Err(refuse(
            path,
            "the program has a socket there, and the directory is not there any more",
            "Make the directory again and restore",
        )),
        place => place.map_err(|refusal| by_path::failed("open", path.as_os_str().as_bytes(), &refusal)),
    }
}

fn is_socket(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
}

/// Removes a socket file that nobody is bound to any more.
fn remove_stale(place: &Place, path: &Path, kind: i32) -> RestoreResult<()> {
    let there = match place.look().and_then(fstat) {
        Ok(there) => there,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(SysError::new("stat", path.display().to_string(), errno).into()),
    };
    if !is_socket(&there) {
        return Err(refuse(
            path,
            "the program has a socket there, and now something else is",
            "Move it away and restore again",
        ));
    }
    let probe = socket::new(libc::AF_UNIX, kind | libc::SOCK_NONBLOCK, 0)?;
    match socket::connect(probe.as_fd(), &file_name(path)) {
        Err(error) if matches!(error.errno(), Some(Errno::ECONNREFUSED | Errno::ENOENT)) => {}
        _ => {
            return Err(refuse(
                path,
                "the program has a socket there, and now another process uses it",
                "End that process and restore again",
            ));
        }
    }
    place.remove().map_err(|errno| SysError::new("unlink", path.display().to_string(), errno).into())
}

/// The name by which a socket of the job is reached from anywhere: its own may be a path that is relative to a directory of the program's, or that leads
/// nowhere.
pub(super) fn reachable(maker: &Maker<'_, '_>, fd: BorrowedFd<'_>, record: &SocketV1) -> SysResult<Vec<u8>> {
    match (&record.bound_file, maker.ghost_names.path(record.inode)) {
        (Some(file), _) => Ok(file_name(Path::new(OsStr::from_bytes(&file.path)))),
        (None, Some(path)) => Ok(file_name(path)),
        // As it is bound now, which is not always as it was.
        (None, None) => socket::local_name(fd),
    }
}

/// `struct sockaddr_un` with a path.
fn file_name(path: &Path) -> Vec<u8> {
    let mut name = 1_u16.to_ne_bytes().to_vec();
    name.extend_from_slice(path.as_os_str().as_bytes());
    name.push(0);
    name
}

/// Binds to a name that no longer leads to the socket; if that cannot be, to a name that nobody knows.
pub(super) fn bind_to_ghost(
    maker: &mut Maker<'_, '_>,
    fd: BorrowedFd<'_>,
    record: &SocketV1,
) -> RestoreResult<()> {
    let Err(error) = maker.ghost_names.bind(fd, record.inode, &record.local) else { return Ok(()) };
    let path = show(&record.local[2..]);
    tracing::warn!(path, %error, "a socket whose file is gone has an abstract name now");
    Ok(socket::bind(fd, &record.local[..2])?)
}

fn in_use(local: &[u8], error: &SysError) -> RestoreError {
    let name = local.get(2..).unwrap_or_default();
    let name = match name.split_first() {
        Some((0, name)) => format!("@{}", show(name)),
        _ => show(name),
    };
    RestoreError::File {
        path: name,
        reason: format!("a socket of the program has this name, and cannot get it now: {}", error.source),
        remedy: "End the process that has it (ss -xlp shows it) and restore again".into(),
    }
}
