//! Mappings: each at its address, with what it maps and how.
use crate::builder::Builder;
use crate::calls::Calls;
use crate::canonical;
use crate::content::Contents;
use crate::error::{RestoreError, RestoreResult};
use crate::{aio, files, mapped_file, segment};
use ckpt_image::Image;
use ckpt_image::record::{BackingV1, VmaV1, vma_flags};
use ckpt_sys::canonical::open_how;
use ckpt_sys::{SysError, descriptor, huge_pages};
use nix::errno::Errno;
use std::os::fd::{AsFd, RawFd};

const PROT_WRITE: u32 = libc::PROT_WRITE.unsigned_abs();
const MAP_DROPPABLE: i32 = 0x08;
const MADV_GUARD_INSTALL: u64 = 102;
const MLOCK_ONFAULT: u64 = 1;
const PR_SET_VMA: u64 = 0x5356_4d41;
const SYS_MSEAL: i64 = 462;

/// Advice that changes how pages are made: given before there are any.
const EARLY_ADVICE: [(u64, i32); 2] =
    [(vma_flags::HUGEPAGE, libc::MADV_HUGEPAGE), (vma_flags::NOHUGEPAGE, libc::MADV_NOHUGEPAGE)];
/// Advice about what becomes of pages.
const LATE_ADVICE: [(u64, i32); 6] = [
    (vma_flags::DONTFORK, libc::MADV_DONTFORK),
    (vma_flags::DONTDUMP, libc::MADV_DONTDUMP),
    (vma_flags::WIPEONFORK, libc::MADV_WIPEONFORK),
    (vma_flags::MERGEABLE, libc::MADV_MERGEABLE),
    (vma_flags::SEQUENTIAL, libc::MADV_SEQUENTIAL),
    (vma_flags::RANDOM, libc::MADV_RANDOM),
];

/// Maps mappings one after the other. What needs nothing of the calls before it waits for others to be made with it.
#[derive(Debug, Default)]
pub(crate) struct Mapper {
    calls: Option<Calls>,
    /// The file that was opened last: libraries are mapped in several parts.
    last: Option<(Vec<u8>, bool, u64)>,
}

impl Mapper {
    /// Closes the last file, and makes what still waits.
    pub(crate) fn finish(mut self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        self.close(builder);
        self.make(builder)
    }

    fn calls(&mut self, builder: &Builder<'_>) -> &mut Calls {
        self.calls.get_or_insert_with(|| builder.calls())
    }

    fn make(&mut self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        self.calls.take().map_or(Ok(()), |calls| builder.make(calls))
    }

    fn close(&mut self, builder: &Builder<'_>) {
        if let Some((path, _, fd)) = self.last.take() {
            let object = String::from_utf8_lossy(&path).into_owned();
            self.calls(builder).add("close", object, libc::SYS_close, &[fd]);
        }
    }

    /// As [`Self::open`], for writing: the description that is our descriptor `number`. One that open(2) makes would count as a writer of the file,
    /// which keeps it from being run.
    fn take(&mut self, builder: &mut Builder<'_>, path: Vec<u8>, number: u64) -> RestoreResult<u64> {
        if let Some((last, true, fd)) = &self.last
            && *last == path
        {
            return Ok(*fd);
        }
        self.close(builder);
        self.make(builder)?;
        let fd = take(builder, number)?;
        self.last = Some((path, true, fd));
        Ok(fd)
    }

    fn open(&mut self, builder: &mut Builder<'_>, path: &[u8], writable: bool) -> RestoreResult<u64> {
        if let Some((last, last_writable, fd)) = &self.last
            && last == path
            && *last_writable == writable
        {
            return Ok(*fd);
        }
        self.close(builder);
        self.make(builder)?;
        let fd = open(builder, path, writable)?;
        self.last = Some((path.to_vec(), writable, fd));
        Ok(fd)
    }
}

/// Gives the process a descriptor of its own of one of ours, `number`.
fn take(builder: &mut Builder<'_>, number: u64) -> RestoreResult<u64> {
    if builder.apart {
        let link = format!("/proc/self/fd/{number}");
        // A writable one of a file would count as a writer, and this is a duplicate.
        let duplicate = descriptor::duplicate(RawFd::try_from(number).unwrap_or(-1));
        let duplicate = duplicate.map_err(|errno| SysError::new("dup", link, errno))?;
        return files::hand_over(builder, duplicate.as_fd());
    }
    let us = u64::from(std::process::id());
    let object = || format!("descriptor {number} of ours");
    let pidfd = builder.call("pidfd_open", &object(), libc::SYS_pidfd_open, &[us, 0])?;
    let taken = builder.call("pidfd_getfd", &object(), libc::SYS_pidfd_getfd, &[pidfd, number, 0]);
    builder.call("close", &object(), libc::SYS_close, &[pidfd])?;
    taken
}

/// Opens a file in the process.
pub(crate) fn open(builder: &mut Builder<'_>, path: &[u8], writable: bool) -> RestoreResult<u64> {
    open_as(builder, path, if writable { libc::O_RDWR } else { libc::O_RDONLY })
}

/// As [`open`], with the flags of open(2); close-on-exec.
pub(crate) fn open_as(builder: &mut Builder<'_>, path: &[u8], flags: i32) -> RestoreResult<u64> {
    let mode = flags | libc::O_CLOEXEC;
    let is_own = canonical::is_own(path);
    if builder.apart && is_own {
        return open_here(builder, path, mode);
    }
    let at_cwd = i64::from(libc::AT_FDCWD).cast_unsigned();
    if is_own {
        let at = builder.place_path(path)?;
        let args = [at_cwd, at.get(), u64::from(mode.unsigned_abs()), 0];
        return builder.call("open", &String::from_utf8_lossy(path), libc::SYS_openat, &args);
    }
    let how = open_how(mode, 0);
    let size = size_of_val(&how);
    let mut both: Vec<u8> = how.iter().flat_map(|word| word.to_ne_bytes()).collect();
    both.extend_from_slice(path);
    both.push(0);
    let (at, size) = (builder.place(&both)?.get(), u64::try_from(size).unwrap_or(0));
    let args = [at_cwd, at + size, at, size];
    match builder.remote.syscall(libc::SYS_openat2, &args)? {
        Ok(fd) => Ok(fd),
        // There is a link on the way, which it may be right to follow.
        Err(Errno::ELOOP) if !builder.apart => open_here(builder, path, mode),
        Err(errno) => Err(RestoreError::Remote {
            pid: builder.remote.pid(),
            call: "open",
            object: String::from_utf8_lossy(path).into_owned(),
            errno,
        }),
    }
}

/// Opens a file by a path that is ours, and hands it over.
fn open_here(builder: &mut Builder<'_>, path: &[u8], mode: i32) -> RestoreResult<u64> {
    let opened = canonical::open(path, mode).map_err(|refusal| canonical::failed("open", path, &refusal))?;
    files::hand_over(builder, opened.as_fd())
}

/// Maps one mapping, empty. Private memory may have its final protection at once: it is filled through it.
pub(crate) fn map(
    builder: &mut Builder<'_>,
    contents: &mut Contents,
    image: &Image,
    vma: &VmaV1,
    mapper: &mut Mapper,
) -> RestoreResult<()> {
    let has = |flag: u64| vma.flags & flag != 0;
    let may_write = vma.max_prot & PROT_WRITE != 0;
    let (mut flags, fd, offset) = match &vma.backing {
        BackingV1::Vdso | BackingV1::Vvar | BackingV1::Vsyscall => return Ok(()),
        // When its descriptor is there.
        BackingV1::IoUring { .. } | BackingV1::PacketRings { .. } => return Ok(()),
        BackingV1::AioRing(ring) => return aio::restore_ring(builder, vma, ring),
        BackingV1::Anonymous => {
            let kind = if has(vma_flags::DROPPABLE) { MAP_DROPPABLE } else { libc::MAP_PRIVATE };
            (kind | libc::MAP_ANONYMOUS, u64::MAX, 0)
        }
        BackingV1::HugeAnonymous { page_size } => {
            let size = huge_pages::size_flags(*page_size).cast_signed();
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | size, u64::MAX, 0)
        }
        BackingV1::Shmem { shmem, offset } => {
            if let Some(segment) = contents.segments.id(image, *shmem)? {
                return segment::attach(builder, vma, segment, *offset);
            }
            let link = contents.shmem_link(image, *shmem)?;
            let fd = match contents.memfd(*shmem).filter(|_| may_write) {
                Some(number) => mapper.take(builder, link, number)?,
                None => mapper.open(builder, &link, may_write)?,
            };
            (libc::MAP_SHARED, fd, *offset)
        }
        BackingV1::ShmemPrivate { shmem, offset } => {
            let link = contents.shmem_link(image, *shmem)?;
            (libc::MAP_PRIVATE, mapper.open(builder, &link, false)?, *offset)
        }
        BackingV1::File { file, offset, shared } => {
            let path = match file.ghost {
                Some(ghost) => contents.ghost_link(image, ghost)?,
                None => {
                    let found = contents.further.seen_by(builder.remote.pid(), &file.path);
                    mapped_file::check(vma, file, *offset, &found)?;
                    file.path.clone()
                }
            };
            let kind = match (shared, has(vma_flags::SYNC)) {
                (true, true) => libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
                (true, false) => libc::MAP_SHARED,
                (false, _) => libc::MAP_PRIVATE,
            };
            (kind, mapper.open(builder, &path, file.writable)?, *offset)
        }
    };
    // The place is free: whatever is there would be ours.
    flags |= libc::MAP_FIXED_NOREPLACE;
    if has(vma_flags::GROWSDOWN) {
        flags |= libc::MAP_GROWSDOWN;
    }
    if has(vma_flags::NORESERVE) {
        flags |= libc::MAP_NORESERVE;
    }
    let (prot, flags) = (u64::from(vma.prot), u64::from(flags.unsigned_abs()));
    let args = [vma.start, vma.end - vma.start, prot, flags, fd, offset];
    let calls = mapper.calls(builder);
    calls.add("mmap", describe(vma), libc::SYS_mmap, &args);
    advise(calls, vma, &EARLY_ADVICE);
    if calls.is_full() { mapper.make(builder) } else { Ok(()) }
}

/// Advice about pages that are there now.
pub(crate) fn advise_late(builder: &mut Builder<'_>, vmas: &[VmaV1]) -> RestoreResult<()> {
    let mut calls = builder.calls();
    for vma in vmas {
        advise(&mut calls, vma, &LATE_ADVICE);
        if calls.is_full() {
            builder.make(std::mem::replace(&mut calls, builder.calls()))?;
        }
    }
    builder.make(calls)
}

/// Settings of a mapping that has its contents, when all others have their advice: the kernel keeps some by mapping, and until then neighbours are
/// one mapping to it.
pub(crate) fn finish(builder: &mut Builder<'_>, vma: &VmaV1) -> RestoreResult<()> {
    if matches!(vma.backing, BackingV1::IoUring { .. } | BackingV1::PacketRings { .. }) {
        return Ok(());
    }
    let has = |flag: u64| vma.flags & flag != 0;
    let len = vma.end - vma.start;
    for (start, end) in &vma.guards {
        let args = [*start, end - start, MADV_GUARD_INSTALL];
        builder.call("madvise(MADV_GUARD_INSTALL)", &describe(vma), libc::SYS_madvise, &args)?;
    }
    if has(vma_flags::LOCKED) || has(vma_flags::LOCK_ON_FAULT) {
        let flags = if has(vma_flags::LOCK_ON_FAULT) { MLOCK_ONFAULT } else { 0 };
        let outcome = builder.remote.syscall(libc::SYS_mlock2, &[vma.start, len, flags])?;
        // A guard page, PROT_NONE or the end of a file in it: it is locked all the same.
        if let Err(errno) = outcome
            && errno != Errno::ENOMEM
        {
            builder.call("mlock2", &describe(vma), libc::SYS_mlock2, &[vma.start, len, flags])?;
        }
    }
    // The kernel itself gives memory that may only be executed its key.
    if vma.protection_key != 0 && vma.prot != libc::PROT_EXEC.unsigned_abs() {
        let args = [vma.start, len, u64::from(vma.prot), u64::from(vma.protection_key)];
        builder.call("pkey_mprotect", &describe(vma), libc::SYS_pkey_mprotect, &args)?;
    }
    if let Some(name) = &vma.name {
        let at = builder.place_path(name)?;
        let args = [PR_SET_VMA, 0, vma.start, len, at.get()];
        if let Err(errno) = builder.remote.syscall(libc::SYS_prctl, &args)? {
            tracing::debug!(%errno, name = %String::from_utf8_lossy(name), "this kernel has no names of mappings");
        }
    }
    Ok(())
}

/// Makes what mseal(2) had made unchangeable so again.
pub(crate) fn seal(builder: &mut Builder<'_>, vma: &VmaV1) -> RestoreResult<()> {
    let special = matches!(vma.backing, BackingV1::Vdso | BackingV1::Vvar | BackingV1::Vsyscall);
    if vma.flags & vma_flags::SEALED != 0 && !special {
        builder.call("mseal", &describe(vma), SYS_MSEAL, &[vma.start, vma.end - vma.start, 0])?;
    }
    Ok(())
}

fn advise(calls: &mut Calls, vma: &VmaV1, table: &[(u64, i32)]) {
    if matches!(vma.backing, BackingV1::IoUring { .. } | BackingV1::PacketRings { .. }) {
        return;
    }
    for (_, advice) in table.iter().filter(|(flag, _)| vma.flags & flag != 0) {
        let args = [vma.start, vma.end - vma.start, u64::from(advice.unsigned_abs())];
        // There are kernels without huge pages or page merging.
        let object = format!("advice {advice} on {}", describe(vma));
        calls.add_optional("madvise", object, libc::SYS_madvise, &args);
    }
}

/// A mapping as errors name it.
pub(crate) fn describe(vma: &VmaV1) -> String {
    let name = match &vma.backing {
        BackingV1::File { file, .. } => format!(" ({})", String::from_utf8_lossy(&file.path)),
        _ => String::new(),
    };
    format!("the mapping at {:#x}-{:#x}{name}", vma.start, vma.end)
}
