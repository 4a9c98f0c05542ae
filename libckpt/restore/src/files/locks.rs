//! Locks on files.
use super::{Maker, Site};
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FileKindV1, FileLockV1, LockClassV1, OpenFileV1};
use ckpt_sys::{SysError, descriptor};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

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
        let is_owner = |site: &Site<'_, '_>| site.builder.remote.pid() == lock.pid;
        let holds = |site: &Site<'_, '_>| site.table.fds.iter().any(|fd| fd.file == file.id);
        let owner = maker.sites.iter().position(|site| is_owner(site) && holds(site));
        // A POSIX lock is of a table: of that of a thread of the process, if not of the process's own.
        let posix = lock.class == LockClassV1::Posix;
        let owner = owner.or_else(|| maker.sites.iter().position(|site| posix && holds(site)));
        let owner = owner.or_else(|| maker.sites.iter().position(is_owner));
        let at = owner.unwrap_or_else(|| maker.holder(file.id));
        let made = maker.made(file.id)?.try_clone_to_owned();
        let own = made.map_err(|error| SysError::new("dup", "a locked file", error))?;
        let site = &mut maker.sites[at];
        let access = file.flags.cast_signed() & libc::O_ACCMODE;
        let outcome = match site.table.fds.iter().find(|fd| fd.file == file.id) {
            Some(fd) if is_lease(lock) => {
                lease(site.builder, u64::from(fd.fd.unsigned_abs()), own.as_fd(), lock, access)?
            }
            Some(fd) => take(site.builder, u64::from(fd.fd.unsigned_abs()), lock)?,
            // Its only descriptor is under way in a socket.
            None => maker.in_process(at, own.as_fd(), |builder, number| match is_lease(lock) {
                true => lease(builder, number, own.as_fd(), lock, access),
                false => take(builder, number, lock),
            })?,
        };
        outcome.map_err(|errno| refused(file, errno))?;
    }
    Ok(())
}

/// Takes a lease. One that was being broken is broken again, and the holder, who knows of it, not told.
fn lease(
    builder: &mut Builder<'_>,
    number: u64,
    made: BorrowedFd<'_>,
    lock: &FileLockV1,
    access: i32,
) -> RestoreResult<Result<u64, Errno>> {
    let (write, breaker) = match lock.class {
        LockClassV1::LeaseToRead => (true, Some(libc::O_RDONLY)),
        LockClassV1::LeaseToNone => (access != libc::O_RDONLY, Some(libc::O_WRONLY)),
        _ => (lock.exclusive, None),
    };
    let kind = if write { libc::F_WRLCK } else { libc::F_RDLCK };
    let args = [number, u64::from(libc::F_SETLEASE.unsigned_abs()), u64::from(kind.unsigned_abs())];
    let taken = builder.remote.syscall(libc::SYS_fcntl, &args)?;
    if let (Ok(_), Some(breaker)) = (&taken, breaker) {
        // Whoever takes a lease becomes the one who is told; the owners come later.
        descriptor::set_owner(made, descriptor::Owner { kind: descriptor::OWNER_PROCESS, id: 0 })?;
        let link = format!("/proc/self/fd/{}", made.as_raw_fd());
        return Ok(match descriptor::open(link.as_bytes(), breaker | libc::O_NONBLOCK, 0) {
            Err(Errno::EWOULDBLOCK) => taken,
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::EBUSY),
        });
    }
    Ok(taken)
}

fn is_lease(lock: &FileLockV1) -> bool {
    matches!(lock.class, LockClassV1::Lease | LockClassV1::LeaseToRead | LockClassV1::LeaseToNone)
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
