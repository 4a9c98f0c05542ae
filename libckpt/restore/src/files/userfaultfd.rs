//! userfaultfd(2): made by the process whose memory it is for, registered, and that memory filled through it.
//!
//! Pages come by UFFDIO_COPY, one by one: a write might bring a huge page, and with it pages that are to be missing.
use super::Maker;
use crate::error::{RestoreError, RestoreResult};
use ckpt_dirty::DirtyError;
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{BackingV1, FileKindV1, MmId, MmV1, OpenFileV1, UserfaultfdAreaV1, UserfaultfdV1};
use ckpt_sys::{SysError, late_pages, uffd};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const PAGE: u64 = PAGE_SIZE as u64;
const MADV_DONTNEED_LOCKED: u64 = 24;

/// Makes all of them.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let mut mms: Option<Vec<MmV1>> = None;
    for file in files {
        if let FileKindV1::Userfaultfd(record) = &file.kind {
            let mms = match &mut mms {
                Some(mms) => mms,
                none => none.insert(maker.image.records()?),
            };
            let made = make(maker, record, mms)?;
            maker.made.insert(file.id, made);
        }
    }
    Ok(())
}

fn make(maker: &mut Maker<'_, '_>, record: &UserfaultfdV1, mms: &[MmV1]) -> RestoreResult<OwnedFd> {
    let pid = i32::try_from(record.mm.0).unwrap_or(0);
    let site = maker.sites.iter_mut().find(|site| site.builder.remote.pid() == pid);
    let missing = || RestoreError::Inconsistent {
        what: format!("process {pid}, whose userfaultfd it has, has no descriptors"),
    };
    let builder = &mut site.ok_or_else(missing)?.builder;
    // What was inherited, or came with a huge page or a lock.
    for area in &record.areas {
        let args = [area.start, area.end - area.start, MADV_DONTNEED_LOCKED];
        builder.call("madvise(MADV_DONTNEED_LOCKED)", &describe(area), libc::SYS_madvise, &args)?;
    }
    let mut make = |flags| {
        ckpt_dirty::make_userfaultfd(&mut builder.remote, flags).map_err(|error| match error {
            DirtyError::Sys(error) => RestoreError::from(error),
            DirtyError::Inject(error) => error.into(),
        })
    };
    let refused = |errno: Errno| RestoreError::Machine {
        reason: format!("the program handles page faults (userfaultfd), which it may not here: {errno}"),
        remedy: "Run ckpt as root, or allow it (sysctl vm.unprivileged_userfaultfd=1)".into(),
    };
    let fd = match make(uffd::O_CLOEXEC)? {
        Ok(fd) => fd,
        // Then the program's own was of that kind, too.
        Err(Errno::EPERM) => make(uffd::O_CLOEXEC | uffd::USER_MODE_ONLY)?.map_err(refused)?,
        Err(errno) => return Err(refused(errno)),
    };
    let Some(features) = record.features else { return Ok(fd) };
    uffd::handshake(fd.as_fd(), features).map_err(|error| match error.errno() {
        Some(Errno::EINVAL) => RestoreError::Machine {
            reason: format!(
                "the program uses features of userfaultfd ({features:#x}) that this kernel lacks"
            ),
            remedy: "Restore on a kernel as new as the one that it was saved on".into(),
        },
        Some(errno) => refused(errno),
        None => error.into(),
    })?;
    for area in &record.areas {
        uffd::register(fd.as_fd(), area.start..area.end, area.modes)?;
        fill(maker.image, backing(mms, record.mm, area)?, area, fd.as_fd())?;
        for (start, end) in &area.protected {
            uffd::protect(fd.as_fd(), *start..*end)?;
        }
    }
    Ok(fd)
}

/// What the pages of an area are pages of: the page of `space` that is at its beginning. Shared memory has its contents.
#[derive(Debug, Clone, Copy)]
struct Backing {
    space: Space,
    first_page: u64,
    is_shared: bool,
}

fn backing(mms: &[MmV1], mm: MmId, area: &UserfaultfdAreaV1) -> RestoreResult<Backing> {
    let mut vmas = mms.iter().filter(|other| other.id == mm).flat_map(|mm| &mm.vmas);
    match vmas.find(|vma| vma.start == area.start).map(|vma| &vma.backing) {
        Some(BackingV1::Anonymous) => {
            Ok(Backing { space: Space::Private(mm), first_page: area.start / PAGE, is_shared: false })
        }
        Some(BackingV1::Shmem { shmem, offset }) => {
            Ok(Backing { space: Space::Shmem(*shmem), first_page: offset / PAGE, is_shared: true })
        }
        _ => Err(RestoreError::Inconsistent {
            what: format!("{} has its faults handled and is not of memory", describe(area)),
        }),
    }
}

/// Makes the pages that were there: those that the image has, and zeros.
fn fill(image: &Image, backing: Backing, area: &UserfaultfdAreaV1, fd: BorrowedFd<'_>) -> RestoreResult<()> {
    let Backing { space, first_page, is_shared } = backing;
    let address = |page: u64| area.start + (page - first_page) * PAGE;
    let mut reader = image.reader();
    for (start, end) in &area.present {
        let pages = first_page + (start - area.start) / PAGE..first_page + (end - area.start) / PAGE;
        for run in image.runs(space, pages.clone()).iter().filter(|run| !run.present) {
            put_zeros(fd, address(run.first_page), address(run.first_page + run.count))?;
        }
        if !is_shared {
            reader.for_each_run::<RestoreError>(space, pages, &mut |page, bytes| {
                copy(fd, address(page), bytes)
            })?;
        }
    }
    Ok(())
}

fn copy(fd: BorrowedFd<'_>, address: u64, bytes: &[u8]) -> RestoreResult<()> {
    let mut done = 0;
    while done < bytes.len() {
        let at = address + u64::try_from(done).unwrap_or(0);
        match late_pages::copy(fd, at, &bytes[done..]) {
            (0, Some(errno)) => {
                return Err(SysError::new("ioctl(UFFDIO_COPY)", format!("{at:#x}"), errno).into());
            }
            (copied, _) => done += copied,
        }
    }
    Ok(())
}

fn put_zeros(fd: BorrowedFd<'_>, mut start: u64, end: u64) -> RestoreResult<()> {
    while start < end {
        match late_pages::zero_some(fd, start..end) {
            // Another mapping of shared memory has brought it.
            (0, Some(Errno::EEXIST)) => start += PAGE,
            (0, Some(errno)) => {
                return Err(SysError::new("ioctl(UFFDIO_ZEROPAGE)", format!("{start:#x}"), errno).into());
            }
            (0, None) => return Ok(()),
            (filled, _) => start += filled,
        }
    }
    Ok(())
}

fn describe(area: &UserfaultfdAreaV1) -> String {
    format!("the mapping at {:#x}-{:#x}", area.start, area.end)
}
