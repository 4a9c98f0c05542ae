//! Whether this machine has as many huge pages as a job needs.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{BackingV1, MmV1, ShmemId, ShmemV1, VmaV1, vma_flags};
use ckpt_sys::{huge_pages, sysv_shm};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;

/// Refuses an image whose job needs more huge pages than can be had now.
pub(crate) fn check(image: &Image) -> RestoreResult<()> {
    for (page_size, pages) in needed(image)? {
        let available = huge_pages::available(page_size);
        if available.is_some_and(|available| available >= pages) {
            continue;
        }
        let size = page_size >> 10;
        let (found, remedy) = match available {
            Some(available) => {
                let missing = pages - available;
                let file = format!("/sys/kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages");
                let more = format!("Reserve {missing} more (add {missing} to the number in {file})");
                (format!("{available} are free: {missing} are missing"), more + " and restore again")
            }
            None => {
                ("this machine has none of that size".to_owned(), "Restore on a machine that has them".into())
            }
        };
        let reason = format!("the program needs {pages} huge pages of {size} kB, and {found}");
        return Err(RestoreError::Machine { reason, remedy });
    }
    Ok(())
}

/// Huge pages by their size in bytes.
fn needed(image: &Image) -> RestoreResult<BTreeMap<u64, u64>> {
    let mut needed: BTreeMap<u64, u64> = BTreeMap::new();
    // What is mapped is set aside when it is mapped, but for MAP_NORESERVE.
    let mut reserved: BTreeSet<ShmemId> = BTreeSet::new();
    let is_reserved = |vma: &VmaV1| vma.flags & vma_flags::NORESERVE == 0;
    for mm in image.records::<MmV1>()? {
        for vma in &mm.vmas {
            match vma.backing {
                BackingV1::HugeAnonymous { page_size } if page_size > 0 => {
                    let pages = if is_reserved(vma) {
                        (vma.end - vma.start) / page_size
                    } else {
                        held(image, Space::Private(mm.id), vma.start..vma.end, page_size)
                    };
                    *needed.entry(page_size).or_default() += pages;
                }
                BackingV1::Shmem { shmem, .. } if is_reserved(vma) => drop(reserved.insert(shmem)),
                _ => {}
            }
        }
    }
    for shmem in image.records::<ShmemV1>()?.iter().filter(|shmem| shmem.page_size > 0) {
        // A segment that is still there has its pages.
        if shmem.segment.is_some_and(|segment| sysv_shm::stat(segment.id).is_ok()) {
            continue;
        }
        let pages = if reserved.contains(&shmem.id) || shmem.segment.is_some() {
            shmem.size.div_ceil(shmem.page_size)
        } else {
            held(image, Space::Shmem(shmem.id), 0..shmem.size, shmem.page_size)
        };
        *needed.entry(shmem.page_size).or_default() += pages;
    }
    Ok(needed)
}

/// Of how many huge pages the image holds something.
fn held(image: &Image, space: Space, range: Range<u64>, page_size: u64) -> u64 {
    let mut next = 0;
    let mut count = 0;
    let runs = image.runs(space, range.start / PAGE..range.end.div_ceil(PAGE));
    for run in runs.iter().filter(|run| run.present) {
        let first = (run.first_page * PAGE / page_size).max(next);
        let end = ((run.first_page + run.count) * PAGE).div_ceil(page_size);
        count += end.saturating_sub(first);
        next = next.max(end);
    }
    count
}
