//! Locks on files.
use super::Maker;
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FileKindV1, FileLockV1, LockClassV1, OpenFileV1};
use ckpt_sys::SysError;
use nix::errno::Errno;
use std::os::fd::AsFd;

/// `struct flock`: type and whence, padding, two offsets, pid.
fn flock_bytes(lock: &FileLockV1) -> Vec<u8> {
    let kind = if lock.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    let kind = u64::from(kind.unsigned_abs());
    [kind, lock.start, lock.len, 0].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Lets the processes take their locks again. A POSIX lock goes when its process closes any descriptor of the file: this comes when all
/// descriptors are in place.
pub(super) fn restore_locks(maker: &mut Maker<'_, '_>, file: &OpenFileV1) -> RestoreResult<()> {
    for lock in &file.locks {
        let owner = maker.sites.iter().position(|site| site.builder.remote.pid() == lock.pid);
        let at = owner.unwrap_or_else(|| maker.holder(file.id));
        let site = &mut maker.sites[at];
        let outcome = match site.table.fds.iter().find(|fd| fd.file == file.id) {
            Some(fd) => take(site.builder, u64::from(fd.fd.unsigned_abs()), lock)?,
            // Its only descriptor is under way in a socket.
            None => {
                let own = maker.made(file.id)?.try_clone_to_owned();
                let own = own.map_err(|error| SysError::new("dup", "a locked file", error))?;
                maker.in_process(at, own.as_fd(), |builder, number| take(builder, number, lock))?
            }
        };
        outcome.map_err(|errno| refused(file, errno))?;
    }
    Ok(())
}

fn take(builder: &mut Builder<'_>, number: u64, lock: &FileLockV1) -> RestoreResult<Result<u64, Errno>> {
    if lock.class == LockClassV1::Flock {
        let kind = if lock.exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
        let operation = u64::from((kind | libc::LOCK_NB).unsigned_abs());
        return Ok(builder.remote.syscall(libc::SYS_flock, &[number, operation])?);
    }
    let at = builder.place(&flock_bytes(lock))?;
    let command = if lock.class == LockClassV1::Ofd { libc::F_OFD_SETLK } else { libc::F_SETLK };
    Ok(builder.remote.syscall(libc::SYS_fcntl, &[number, u64::from(command.unsigned_abs()), at.get()])?)
}

fn refused(file: &OpenFileV1, errno: Errno) -> RestoreError {
    let path = match &file.kind {
        FileKindV1::Path { path, .. } => super::common::show(path),
        _ => format!("open file {}", file.id.0),
    };
    let reason = match errno {
        Errno::EAGAIN | Errno::EACCES => "another process has taken the lock that the program held".into(),
        errno => format!("the lock that the program held cannot be taken: {errno}"),
    };
    RestoreError::File { path, reason, remedy: "End that process and restore again".into() }
}
