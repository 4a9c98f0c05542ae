//! What all kinds of descriptions have: status flags, position, owner.
use crate::builder::Builder;
use crate::error::RestoreResult;
use ckpt_image::record::{FdTableV1, FileKindV1, OpenFileV1, TerminalSideV1};
use ckpt_sys::{SysError, descriptor};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

const O_TMPFILE_BIT: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
/// What fcntl(F_SETFL) can set.
const STATUS: i32 = libc::O_APPEND | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME | libc::O_NONBLOCK;

/// Flags to open a file again with: those that it has, without those that make or cut files.
pub(super) fn open_flags(file: &OpenFileV1) -> i32 {
    let flags = file.flags.cast_signed();
    let mut without = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_ASYNC | libc::O_CLOEXEC;
    if flags & O_TMPFILE_BIT != 0 {
        without |= libc::O_TMPFILE;
    }
    flags & !without | libc::O_NOCTTY
}

/// Sets position and status flags of a description that was made.
pub(super) fn finish(file: &OpenFileV1, fd: BorrowedFd<'_>) -> RestoreResult<()> {
    let flags = file.flags.cast_signed();
    // What stands for the outside is shared with it, and has a position of its own.
    if flags & libc::O_PATH != 0 || is_outside(&file.kind) {
        return Ok(());
    }
    let seekable = matches!(file.kind, FileKindV1::Path { .. } | FileKindV1::Memfd { .. });
    if seekable && file.position != 0 {
        let position = i64::try_from(file.position).unwrap_or(i64::MAX);
        // SAFETY: no pointers.
        let outcome = unsafe { libc::lseek64(fd.as_raw_fd(), position, libc::SEEK_SET) };
        if outcome != position && Errno::last() != Errno::ESPIPE {
            return Err(SysError::last("lseek", format!("{:?} to {position}", name(file))).into());
        }
    }
    // SAFETY: no pointers.
    let now = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if now & STATUS != flags & STATUS {
        descriptor::set_flags(fd, flags & STATUS)?;
    }
    if file.owner_signal != 0 {
        descriptor::set_owner_signal(fd, file.owner_signal)?;
    }
    Ok(())
}

fn is_outside(kind: &FileKindV1) -> bool {
    match kind {
        FileKindV1::Stdio { .. } => true,
        FileKindV1::Terminal(end) => matches!(end.side, TerminalSideV1::Outside { .. }),
        _ => false,
    }
}

fn name(file: &OpenFileV1) -> String {
    match &file.kind {
        FileKindV1::Path { path, .. } | FileKindV1::Device { path, .. } | FileKindV1::Fifo { path, .. } => {
            show(path)
        }
        _ => format!("open file {}", file.id.0),
    }
}

/// Bytes as a message shows them.
pub(super) fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sets who gets the signals of O_ASYNC.
pub(super) fn restore_owners(
    builder: &mut Builder<'_>,
    files: &[OpenFileV1],
    table: &FdTableV1,
) -> RestoreResult<()> {
    const F_SETOWN_EX: u64 = 15;
    for file in files.iter().filter(|file| file.owner.0 != 0) {
        let Some(fd) = table.fds.iter().find(|fd| fd.file == file.id) else { continue };
        let kind = file.owner.0 - 1;
        let Some(id) = builder.id_there(file.owner.1)? else { continue };
        let owner = builder.place(&[kind.to_ne_bytes(), id.to_ne_bytes()].concat())?;
        let args = [u64::from(fd.fd.unsigned_abs()), F_SETOWN_EX, owner.get()];
        match builder.remote.syscall(libc::SYS_fcntl, &args)? {
            // The owner was another process, and has ended.
            Ok(_) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                let object = format!("fd {}", fd.fd);
                let pid = builder.remote.pid();
                return Err(crate::RestoreError::Remote { pid, call: "fcntl(F_SETOWN_EX)", object, errno });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_image::record::OpenFileId;

    #[test]
    fn flags_that_make_files_are_left_out() {
        let with = |flags: i32| OpenFileV1 {
            id: OpenFileId(0),
            flags: flags.unsigned_abs(),
            position: 0,
            owner: (0, 0),
            owner_signal: 0,
            locks: Vec::new(),
            kind: FileKindV1::Signalfd { mask: 0 },
        };
        let kept = libc::O_RDWR | libc::O_APPEND | libc::O_DIRECTORY | libc::O_NOCTTY;
        assert_eq!(open_flags(&with(kept | libc::O_CREAT | libc::O_TRUNC)), kept);
        assert_eq!(open_flags(&with(libc::O_TMPFILE | libc::O_RDWR)), libc::O_RDWR | libc::O_NOCTTY);
    }
}
