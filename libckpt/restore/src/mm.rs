//! An address space: emptied, mapped, filled, and made known to the kernel as the program's own.
use crate::builder::Builder;
use crate::content::Contents;
use crate::error::{RestoreError, RestoreResult};
use crate::inherited::Inherited;
use crate::lazy::Plan;
use crate::userfaultfd::HandledFaults;
use crate::vma::{self, Mapper};
use crate::{pages, vdso};
use ckpt_dirty::{Kind, Tracker};
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{BackingV1, GhostId, MmV1, VmaV1};
use std::ops::Range;
use std::rc::Rc;

const PAGE: u64 = PAGE_SIZE as u64;
/// End of user space with four-level page tables.
const USER_END: u64 = 0x7fff_ffff_f000;
/// Protection keys of the processor.
const KEYS: u64 = 16;
const PR_SET_DUMPABLE: u64 = 4;
const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
const PR_SET_THP_DISABLE: u64 = 41;

/// Gives the process the address space of the image, in place of what it inherited: a copy of `parent`, as that was restored, if there is one.
/// What comes `late` stays empty, and what has its faults `handled`.
pub(crate) fn restore_mm(
    builder: &mut Builder<'_>,
    contents: &mut Contents,
    image: &Image,
    mm: &MmV1,
    parent: Option<&MmV1>,
    (late, handled): (Option<&Plan>, &HandledFaults),
) -> RestoreResult<()> {
    let stays = vdso::is_in_place(builder, mm)?;
    let inherited = Inherited::find(mm, parent.filter(|_| stays));
    unmap_own(builder, &inherited)?;
    vdso::move_to_image(builder, image, mm)?;
    // The kernel does not let go of a program file that is mapped, and the one that was inherited may be mapped here, too.
    restore_layout(builder, contents, image, mm, &inherited)?;
    let thp = u64::from(mm.thp_disable);
    builder.call(
        "prctl(PR_SET_THP_DISABLE)",
        &"the process",
        libc::SYS_prctl,
        &[PR_SET_THP_DISABLE, thp, 0, 0, 0],
    )?;
    // A mapping may have a key that the program has given back.
    let used = mm.vmas.iter().fold(0, |keys, vma| keys | 1 << vma.protection_key) & !1;
    if parent.is_some() {
        give_keys_back(builder)?;
    }
    take_keys(builder, mm.protection_keys | used)?;
    let mut mapper = Mapper::default();
    for vma in mm.vmas.iter().filter(|vma| !inherited.has(vma)) {
        vma::map(builder, contents, image, vma, &mut mapper)?;
    }
    mapper.finish(builder)?;
    inherited.settle(builder, image)?;
    let copied = parent.filter(|_| !inherited.is_empty());
    Rc::clone(&contents.policies).restore_mappings(builder, mm, copied, |vma| inherited.has(vma))?;
    let is_late = |vma: &VmaV1| late.is_some_and(|plan| plan.has(mm.id, vma));
    let now = |vma: &VmaV1| !inherited.has(vma) && !is_late(vma) && !handled.has(mm.id, vma);
    pages::fill(builder.remote.pid(), builder.remote.memory(), image, mm, now)?;
    vma::advise_late(builder, &mm.vmas)?;
    mm.vmas.iter().try_for_each(|vma| vma::finish(builder, vma))?;
    for key in (1..KEYS).filter(|key| used & !mm.protection_keys & (1 << key) != 0) {
        builder.call("pkey_free", &format!("protection key {key}"), libc::SYS_pkey_free, &[key])?;
    }
    Ok(())
}

/// Makes what mseal(2) had made unchangeable so again: when all children are born that have their own use for these addresses.
pub(crate) fn seal(builder: &mut Builder<'_>, mm: &MmV1) -> RestoreResult<()> {
    mm.vmas.iter().try_for_each(|vma| vma::seal(builder, vma))
}

/// Gives back the protection keys that were inherited from a process of the job: ckpt's own have none.
fn give_keys_back(builder: &mut Builder<'_>) -> RestoreResult<()> {
    for key in 1..KEYS {
        // Of others the kernel says EINVAL.
        let _ = builder.remote.syscall(libc::SYS_pkey_free, &[key])?;
    }
    Ok(())
}

/// Allocates the protection keys that the program had, and no others. The kernel gives the lowest that is free: those between are given back.
fn take_keys(builder: &mut Builder<'_>, wanted: u32) -> RestoreResult<()> {
    let mut spare = Vec::new();
    // Key 0 is there from the start.
    let mut missing = wanted & !1;
    while missing != 0 {
        let key = match builder.remote.syscall(libc::SYS_pkey_alloc, &[0, 0])? {
            Ok(key) => key,
            Err(errno) => {
                return Err(RestoreError::Machine {
                    reason: format!(
                        "the program uses protection keys of memory, and none is to be had: {errno}"
                    ),
                    remedy: "Restore on a machine whose processor has protection keys (pku)".into(),
                });
            }
        };
        if missing & (1 << key) == 0 {
            spare.push(key);
        }
        missing &= !(1 << key);
    }
    for key in spare {
        builder.call("pkey_free", &format!("protection key {key}"), libc::SYS_pkey_free, &[key])?;
    }
    Ok(())
}

/// Unmaps all but what stays of what was inherited, the scratch area and the kernel's mappings.
fn unmap_own(builder: &mut Builder<'_>, inherited: &Inherited<'_>) -> RestoreResult<()> {
    let mut kept: Vec<Range<u64>> = vec![builder.remote.scratch().range()];
    kept.extend(inherited.ranges());
    kept.extend(vdso::current(builder.remote.pid())?.into_iter().map(|(_, range)| range));
    kept.sort_unstable_by_key(|range| range.start);
    let mut next = 0;
    kept.push(USER_END..USER_END);
    for range in kept {
        if next < range.start {
            let object = format!("{next:#x}-{:#x}", range.start);
            builder.call("munmap", &object, libc::SYS_munmap, &[next, range.start - next])?;
        }
        next = range.end;
    }
    Ok(())
}

/// Where code, data, heap, stack, arguments and environment are, the auxiliary vector, and what /proc/PID/exe names: prctl(PR_SET_MM_MAP).
fn restore_layout(
    builder: &mut Builder<'_>,
    contents: &mut Contents,
    image: &Image,
    mm: &MmV1,
    inherited: &Inherited<'_>,
) -> RestoreResult<()> {
    let exe = if inherited.is_empty() {
        let path = match deleted_exe(mm) {
            Some(ghost) => contents.ghost_link(image, ghost)?,
            None => mm.exe.clone(),
        };
        Some(vma::open(builder, &path, false)?)
    } else {
        // It is the parent's, and inherited.
        None
    };
    let auxv = builder.place(&mm.auxv)?;
    // struct prctl_mm_map
    let mut map: Vec<u8> =
        mm.layout.iter().chain([&auxv.get()]).flat_map(|word| word.to_ne_bytes()).collect();
    map.extend_from_slice(&u32::try_from(mm.auxv.len()).unwrap_or(0).to_ne_bytes());
    let number = exe.and_then(|exe| u32::try_from(exe).ok()).unwrap_or(u32::MAX);
    map.extend_from_slice(&number.to_ne_bytes());
    let at = builder.place(&map)?;
    let size = u64::try_from(map.len()).unwrap_or(0);
    let args = [PR_SET_MM, PR_SET_MM_MAP, at.get(), size, 0];
    let outcome = builder.remote.syscall(libc::SYS_prctl, &args)?;
    if let Some(exe) = exe {
        builder.call("close", &String::from_utf8_lossy(&mm.exe), libc::SYS_close, &[exe])?;
    }
    match outcome {
        Ok(_) => Ok(()),
        Err(nix::errno::Errno::EPERM) => Err(RestoreError::Machine {
            reason: "the place of code and heap may not be set (prctl(PR_SET_MM_MAP))".into(),
            remedy: "Run ckpt as root or with CAP_CHECKPOINT_RESTORE".into(),
        }),
        Err(errno) => Err(RestoreError::Remote {
            pid: builder.remote.pid(),
            call: "prctl(PR_SET_MM_MAP)",
            object: format!("the program {}", String::from_utf8_lossy(&mm.exe)),
            errno,
        }),
    }
}

/// The contents of the program file, if it had no name any more.
fn deleted_exe(mm: &MmV1) -> Option<GhostId> {
    mm.vmas.iter().find_map(|vma| match &vma.backing {
        BackingV1::File { file, .. }
            if (file.ident.dev, file.ident.ino) == (mm.exe_ident.dev, mm.exe_ident.ino) =>
        {
            file.ghost
        }
        _ => None,
    })
}

/// PR_SET_DUMPABLE, after the credentials, whose change resets it.
pub(crate) fn restore_dumpable(builder: &mut Builder<'_>, mm: &MmV1) -> RestoreResult<()> {
    // 2 (readable by root) is what a set-user-ID program gets; it cannot be set.
    if mm.dumpable <= 1 {
        builder.prctl("prctl(PR_SET_DUMPABLE)", &[PR_SET_DUMPABLE, u64::from(mm.dumpable), 0, 0, 0])?;
    }
    Ok(())
}

/// Tracks writes from now on, against the image that memory was filled from. None: this machine cannot, and the next checkpoint takes all pages.
pub(crate) fn start_tracking(builder: &mut Builder<'_>, image: &Image, mm: &MmV1) -> Option<Tracker> {
    match track(builder, image, mm) {
        Ok(tracker) => Some(tracker),
        Err(error) => {
            tracing::warn!(%error, "writes are not tracked: the next checkpoint takes all pages");
            None
        }
    }
}

fn track(builder: &mut Builder<'_>, image: &Image, mm: &MmV1) -> Result<Tracker, ckpt_dirty::DirtyError> {
    let mut tracker = Tracker::new(builder.remote.pid());
    tracker.begin()?;
    tracker.attach(&mut builder.remote)?;
    for vma in &mm.vmas {
        let (kind, filled) = match &vma.backing {
            BackingV1::Anonymous => {
                let pages = vma.start / PAGE..vma.end / PAGE;
                (Kind::Anonymous, image.has_pages(Space::Private(mm.id), pages, 1))
            }
            BackingV1::HugeAnonymous { .. } => {
                let pages = vma.start / PAGE..vma.end / PAGE;
                (Kind::PrivateFile, image.has_pages(Space::Private(mm.id), pages, 1))
            }
            BackingV1::ShmemPrivate { .. } | BackingV1::File { shared: false, .. } => {
                (Kind::PrivateFile, !vma.copies.is_empty())
            }
            _ => continue,
        };
        if filled {
            tracker.start(vma.start..vma.end, kind)?;
        }
    }
    Ok(tracker)
}
