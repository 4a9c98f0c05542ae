//! Instances that one thread alone may use (IORING_SETUP_SINGLE_ISSUER): which it is, and what it alone may ask.
use super::{CLOSE, held_by, refused, refused_kind};
use crate::error::{CaptureError, CaptureResult};
use crate::objects::Objects;
use ckpt_image::record::{BackingV1, FdTableV1, FileKindV1, OpenFileV1, VmaV1};
use ckpt_sys::inject::Injector;
use ckpt_sys::io_uring::{ENTER_REGISTERED_RING, Question, REGISTERED_RINGS_MAX, setup};
use ckpt_sys::proc;
use nix::errno::Errno;
use std::collections::HashMap;

/// Groups of provided buffers that are asked for: each is a remote call.
const GROUPS: u32 = 64;

/// What was found so far, by inode.
#[derive(Debug, Default)]
pub(crate) struct Users(HashMap<u64, (i32, i32, u32)>);

impl Users {
    /// Asks stopped thread of `injector`, of a process that has mappings of rings.
    pub(crate) fn ask(&mut self, injector: &mut Injector<'_>) -> CaptureResult<()> {
        let (pid, tid) = (injector.pid(), injector.tid());
        for fd in held_by(pid)? {
            let text = proc::read_text(pid, &format!("fdinfo/{fd}"))?;
            let inode = text.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse().ok());
            let inode: u64 = inode.ok_or_else(|| proc::malformed("parse of fdinfo", pid))?;
            if self.0.contains_key(&inode) {
                continue;
            }
            match ask(injector, fd, Question::Use)? {
                Ok(()) => {}
                Err(Errno::EACCES) => {
                    return Err(refused(pid, fd, "it is restricted (IORING_REGISTER_RESTRICTIONS)", CLOSE));
                }
                Err(_) => continue,
            }
            let mut flags = 0;
            if ask(injector, fd, Question::Deferred)? == Err(Errno::EFAULT) {
                flags |= setup::DEFER_TASKRUN;
            }
            // Others have been asked of those that any thread may use.
            if ask_elsewhere(pid, fd)? == Err(Errno::EEXIST)
                && let Err(reason) = refused_kind(|question| ask(injector, fd, question), GROUPS)?
            {
                return Err(refused(pid, fd, reason, CLOSE));
            }
            self.0.insert(inode, (pid, tid, flags));
        }
        check_registered(injector)
    }
}

fn ask(injector: &mut Injector<'_>, fd: i32, question: Question) -> CaptureResult<Result<(), Errno>> {
    let (operation, argument) = question.call();
    let (nowhere, count) = question.rest();
    let at = match argument {
        Some(bytes) => injector.place(&bytes)?.get(),
        None => nowhere,
    };
    let args = [u64::from(fd.unsigned_abs()), operation, at, count];
    Ok(injector.syscall(libc::SYS_io_uring_register, &args)?.map(drop))
}

/// Whether this process may use the instance.
fn ask_elsewhere(pid: i32, fd: i32) -> CaptureResult<Result<(), Errno>> {
    use std::os::fd::AsFd;
    let process = ckpt_sys::pidfd::open(pid)?;
    let ring = ckpt_sys::pidfd::getfd(process.as_fd(), fd)?;
    Ok(Question::Use.ask(ring.as_fd()))
}

/// Refuses a thread that has registered the descriptors of rings: the kernel does not show which.
fn check_registered(injector: &mut Injector<'_>) -> CaptureResult<()> {
    for number in 0..REGISTERED_RINGS_MAX {
        let args = [number, 0, 0, ENTER_REGISTERED_RING, 0, 0];
        if injector.syscall(libc::SYS_io_uring_enter, &args)?.is_ok() {
            return Err(CaptureError::unsupported(
                injector.pid(),
                format!("thread {}", injector.tid()),
                format!("it has registered the descriptor of an io_uring instance as number {number}"),
                "Let the program unregister it (io_uring_unregister_ring_fd) before saving",
            ));
        }
    }
    Ok(())
}

/// Notes in the records which thread may use each instance, when all threads have been asked. `mapped`: the processes' mappings of instances.
pub(crate) fn settle<'a>(
    objects: &mut Objects,
    tables: &[FdTableV1],
    mapped: impl Iterator<Item = (i32, &'a VmaV1)>,
) -> CaptureResult<()> {
    for (pid, vma) in mapped {
        let BackingV1::IoUring { inode, .. } = vma.backing else { continue };
        let is_its =
            |file: &OpenFileV1| matches!(&file.kind, FileKindV1::IoUring(ring) if ring.inode == inode);
        if !objects.open_files.iter().any(is_its) {
            return Err(CaptureError::unsupported(
                pid,
                format!("the mapping at {:#x}-{:#x} (anon_inode:[io_uring])", vma.start, vma.end),
                "no process of the job has a descriptor of that io_uring instance",
                "Let the program keep the descriptor open, or unmap the rings",
            ));
        }
    }
    let users = &objects.ring_users;
    for file in &mut objects.open_files {
        let FileKindV1::IoUring(ring) = &mut file.kind else { continue };
        if ring.flags & (setup::SINGLE_ISSUER | setup::R_DISABLED) != setup::SINGLE_ISSUER {
            continue;
        }
        let Some((pid, tid, flags)) = users.0.get(&ring.inode).copied() else {
            let fd = tables.iter().flat_map(|table| &table.fds).find(|fd| fd.file == file.id);
            let fd = fd.map_or(-1, |fd| fd.fd);
            let reason = "one thread alone may use it (IORING_SETUP_SINGLE_ISSUER), and that has ended or has no descriptor of it";
            return Err(refused(ring.user.0, fd, reason, CLOSE));
        };
        ring.user = (pid, tid);
        ring.flags |= flags;
    }
    Ok(())
}
