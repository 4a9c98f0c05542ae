//! Locks on files.
use super::Maker;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FdTableV1, FileKindV1, FileLockV1, LockClassV1, OpenFileV1};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

fn flock(lock: &FileLockV1) -> libc::flock {
    let kind = if lock.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or(0),
        l_whence: 0,
        l_start: i64::try_from(lock.start).unwrap_or(i64::MAX),
        l_len: i64::try_from(lock.len).unwrap_or(0),
        l_pid: 0,
    }
}

/// Takes the locks that a description owns: flock(2) and OFD locks.
pub(super) fn restore_locks(file: &OpenFileV1, fd: BorrowedFd<'_>) -> RestoreResult<()> {
    for lock in &file.locks {
        let outcome = match lock.class {
            LockClassV1::Flock => {
                let kind = if lock.exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
                // SAFETY: no pointers.
                unsafe { libc::flock(fd.as_raw_fd(), kind | libc::LOCK_NB) }
            }
            LockClassV1::Ofd => {
                let lock = flock(lock);
                // SAFETY: `lock` is a struct flock.
                unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }
            }
            LockClassV1::Posix => continue,
        };
        if outcome != 0 {
            return Err(refused(file, Errno::last()));
        }
    }
    Ok(())
}

/// Lets the process take the POSIX locks that it owned. A lock goes when its process closes any descriptor of the file: this comes
/// when all descriptors are in place.
pub(super) fn restore_posix_locks(
    maker: &mut Maker<'_, '_>,
    file: &OpenFileV1,
    table: &FdTableV1,
) -> RestoreResult<()> {
    for lock in file.locks.iter().filter(|lock| lock.class == LockClassV1::Posix) {
        let lock = flock(lock);
        // struct flock: two shorts, padding, two offsets, pid.
        let mut bytes = [lock.l_type.to_ne_bytes(), lock.l_whence.to_ne_bytes(), [0; 2], [0; 2]].concat();
        bytes.extend([lock.l_start.to_ne_bytes(), lock.l_len.to_ne_bytes(), [0; 8]].concat());
        let Some(number) = table.fds.iter().find(|fd| fd.file == file.id) else { continue };
        let number = u64::from(number.fd.unsigned_abs());
        let at = maker.builder.place(&bytes)?;
        let set = u64::from(libc::F_SETLK.unsigned_abs());
        if let Err(errno) = maker.builder.remote.syscall(libc::SYS_fcntl, &[number, set, at.get()])? {
            return Err(refused(file, errno));
        }
    }
    Ok(())
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
