//! Pages of private memory, written into the process under construction.
use crate::error::{RestoreError, RestoreResult};
use crate::one_processor;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{BackingV1, MmV1, VmaV1};
use ckpt_image::{Image, PageReader};
use ckpt_sys::RemoteAddr;
use ckpt_sys::memory::ProcessMemory;
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages that one thread takes at a time: a multiple of what the image delivers at once.
const SHARE: u64 = 4096;
/// Threads that write.
const THREADS: usize = 2;

/// Pages of one mapping, by number.
struct Share {
    pages: Range<u64>,
    /// Pages that the image does not hold are zero, and not what the mapping shows by itself.
    zero_absent: bool,
}

/// Fills the private memory of all mappings that are `wanted`.
pub(crate) fn fill(
    pid: i32,
    memory: &ProcessMemory,
    image: &Image,
    mm: &MmV1,
    wanted: impl Fn(&VmaV1) -> bool,
) -> RestoreResult<()> {
    let space = Space::Private(mm.id);
    let shares: Vec<Share> = mm.vmas.iter().filter(|vma| wanted(vma)).flat_map(shares).collect();
    let total: u64 = shares.iter().map(|share| share.pages.end - share.pages.start).sum();
    let next = AtomicUsize::new(0);
    let work = || -> RestoreResult<()> {
        let mut reader = image.reader();
        while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
            fill_share(pid, memory, image, &mut reader, space, share)?;
        }
        Ok(())
    };
    if total <= SHARE {
        return work();
    }
    let all = || {
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
            let own = work();
            others.into_iter().fold(own, |outcome, other| {
                outcome.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })
    };
    one_processor::on_all(all)
}

fn shares(vma: &VmaV1) -> Vec<Share> {
    let (ranges, zero_absent) = match &vma.backing {
        BackingV1::Anonymous | BackingV1::HugeAnonymous { .. } => (vec![(vma.start, vma.end)], false),
        BackingV1::ShmemPrivate { .. } | BackingV1::File { shared: false, .. } => (vma.copies.clone(), true),
        _ => (Vec::new(), false),
    };
    let mut shares = Vec::new();
    for (start, end) in ranges {
        let (mut first, end) = (start / PAGE, end / PAGE);
        // A reservation of terabytes is not cut up.
        let step = if end - first > 1 << 24 { end - first } else { SHARE };
        while first < end {
            let last = end.min(first + step);
            shares.push(Share { pages: first..last, zero_absent });
            first = last;
        }
    }
    shares
}

fn fill_share(
    pid: i32,
    memory: &ProcessMemory,
    image: &Image,
    reader: &mut PageReader<'_>,
    space: Space,
    share: &Share,
) -> RestoreResult<()> {
    if share.zero_absent {
        let zeros = vec![0; PAGE_SIZE];
        for run in image.runs(space, share.pages.clone()).iter().filter(|run| !run.present) {
            for page in run.first_page..run.first_page + run.count {
                write(pid, memory, page * PAGE, &zeros)?;
            }
        }
    }
    reader.for_each_run::<RestoreError>(space, share.pages.clone(), &mut |page, bytes| {
        write(pid, memory, page * PAGE, bytes)
    })
}

/// Brings pages that were inherited to what the image has of `space` there: those that are the same by chance stay shared.
pub(crate) fn update(
    pid: i32,
    memory: &ProcessMemory,
    image: &Image,
    space: Space,
    ranges: &[Range<u64>],
) -> RestoreResult<()> {
    let mut now = Vec::new();
    let mut put = |page: u64, bytes: &[u8]| -> RestoreResult<()> {
        now.resize(bytes.len(), 0);
        let read = memory.read(RemoteAddr::new(page * PAGE), &mut now).is_ok();
        for (number, (new, now)) in (page..).zip(bytes.chunks(PAGE_SIZE).zip(now.chunks(PAGE_SIZE))) {
            if !read || new != now {
                write(pid, memory, number * PAGE, new)?;
            }
        }
        Ok(())
    };
    let mut reader = image.reader();
    for range in ranges {
        let pages = range.start / PAGE..range.end / PAGE;
        for run in image.runs(space, pages.clone()).iter().filter(|run| !run.present) {
            (run.first_page..run.first_page + run.count).try_for_each(|page| put(page, &[0; PAGE_SIZE]))?;
        }
        reader.for_each_run::<RestoreError>(space, pages, &mut put)?;
    }
    Ok(())
}

/// Writes through whatever protection the mapping has.
fn write(pid: i32, memory: &ProcessMemory, address: u64, bytes: &[u8]) -> RestoreResult<()> {
    let base = usize::try_from(address).unwrap_or(0);
    // The fast way; it stops at pages that the process itself may not write.
    let remote = [RemoteIoVec { base, len: bytes.len() }];
    let done = process_vm_writev(Pid::from_raw(pid), &[IoSlice::new(bytes)], &remote).unwrap_or(0);
    if done < bytes.len() {
        let rest = RemoteAddr::new(address).offset(u64::try_from(done).unwrap_or(0));
        memory.write(rest, &bytes[done..])?;
    }
    Ok(())
}
