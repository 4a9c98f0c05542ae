//! Pages: which are saved, and their copies.
use crate::buffer::{PageCopies, Spares};
use crate::clone::{Candidate, Cloned, Permit};
use crate::error::CaptureResult;
use crate::mm;
use crate::objects::Objects;
use crate::process::Process;
use crate::shared_pages::SameRun;
use crate::userfaultfd::Userfaultfds;
use ckpt_dirty::ranges::{gaps, intersection, merged, push, within};
use ckpt_dirty::{Kind, Tracking};
use ckpt_image::CheckpointWriter;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{BackingV1, MmV1, VmaV1};
use ckpt_sys::RemoteAddr;
use ckpt_sys::lent_memory::LentMemory;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes of a mapping of which a look through all entries of its page tables takes hardly longer than to ask for it.
const SMALL: u64 = 8 << 20;

/// What the memory of a checkpoint cost.
#[derive(Debug, Default)]
pub(crate) struct MemoryStats {
    /// Pages with contents that were looked at.
    pub(crate) scanned: u64,
    /// Pages that had changed.
    pub(crate) dirty: u64,
    /// Address ranges whose pages were saved before the freeze, by process.
    pub(crate) precopied: HashMap<i32, Vec<Range<u64>>>,
    /// Copies that were made before the freeze and are not stored yet, by process, the oldest first.
    pub(crate) early: HashMap<i32, Vec<PageCopies>>,
    /// Bytes of those at most.
    pub(crate) early_max: u64,
    /// Memory for them that is there already.
    pub(crate) lent: Option<Rc<LentMemory>>,
}

impl MemoryStats {
    /// Bytes of copies that are not stored yet.
    pub(crate) fn held(&self) -> u64 {
        self.early.values().flatten().flat_map(PageCopies::ranges).map(|range| range.end - range.start).sum()
    }
}

/// Private pages of a frozen process, as the kernel tells of them.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) pid: i32,
    /// Mappings that have pages of their own.
    pub(crate) live: Vec<Range<u64>>,
    /// Pages of those that hold something.
    pub(crate) populated: Vec<Range<u64>>,
    /// Pages that changed.
    pub(crate) dirty: Vec<Range<u64>>,
    /// Those of them that another process has, too.
    pub(crate) same: Vec<SameRun>,
}

/// Private pages of a frozen process, to be stored when it runs on.
#[derive(Debug)]
pub(crate) struct Copied {
    found: Found,
    copies: PageCopies,
    /// Those that were not copied.
    cloned: Option<Box<Cloned>>,
}

impl Copied {
    /// The clone that has what was not copied.
    pub(crate) fn clone_pid(&self) -> Option<i32> {
        self.cloned.as_ref().map(|cloned| cloned.pid())
    }

    /// The pages that had changed.
    pub(crate) fn dirty(&self) -> &[Range<u64>] {
        &self.found.dirty
    }

    /// Pages that were copied.
    pub(crate) fn pages(&self) -> u64 {
        self.copies.ranges().map(|range| count(&range)).sum()
    }
}

/// Finds the pages of a frozen process that were written since the last look, and starts the next look.
/// Tells in `mm` which pages are guards and, of private mappings of files, the program's own; and in `userfaultfds` which pages are there.
pub(crate) fn find(
    process: &Process,
    mm: &mut MmV1,
    tracking: &mut Tracking,
    userfaultfds: &mut Userfaultfds,
) -> CaptureResult<Found> {
    let tracker = tracking.tracker(process.pid);
    let mut found = Found {
        pid: process.pid,
        live: Vec::new(),
        populated: Vec::new(),
        dirty: Vec::new(),
        same: Vec::new(),
    };
    for vmas in mm.vmas.chunk_by_mut(are_side_by_side) {
        let Some(kind) = kind(&vmas[0].backing) else { continue };
        let ranges: Vec<Range<u64>> = vmas.iter().map(|vma| vma.start..vma.end).collect();
        let pages = if is_small(&vmas[0]) {
            tracker.collect_small(&ranges)?
        } else {
            vec![tracker.collect(ranges[0].clone(), kind)?]
        };
        for ((vma, range), pages) in vmas.iter_mut().zip(ranges).zip(pages) {
            let mut populated = pages.populated;
            userfaultfds.look_at(process.pid, vma, &pages.guards, &mut populated)?;
            if kind == Kind::PrivateFile {
                past_the_end(process, vma, &mut populated);
                if !matches!(vma.backing, BackingV1::HugeAnonymous { .. }) {
                    vma.copies = populated.iter().map(|range| (range.start, range.end)).collect();
                }
            }
            vma.guards = pages.guards.iter().map(|range| (range.start, range.end)).collect();
            found.dirty.extend(intersection(&pages.dirty, &populated));
            found.populated.extend(populated);
            found.live.push(range);
        }
    }
    Ok(found)
}

/// Whether a mapping is anonymous, and not large.
fn is_small(vma: &VmaV1) -> bool {
    vma.backing == BackingV1::Anonymous && vma.end - vma.start <= SMALL
}

/// Whether two mappings are looked at together: stacks of threads with their guards, and the like.
fn are_side_by_side(vma: &VmaV1, next: &VmaV1) -> bool {
    vma.end == next.start && is_small(vma) && is_small(next)
}

/// Copies the pages that changed, but for those that are copied of another process; or has them in a clone of the process, where that is quicker and permitted.
pub(crate) fn copy(
    candidate: Candidate<'_>,
    found: Found,
    spares: &mut Spares,
    alone: bool,
    permit: &mut Permit,
) -> CaptureResult<Copied> {
    let process = candidate.process;
    let same: Vec<Range<u64>> = found.same.iter().map(SameRun::range).collect();
    let own: Vec<Range<u64>> =
        found.dirty.iter().flat_map(|range| gaps(range, &within(&same, range))).collect();
    let Some(split) = candidate.split(&own, &found.populated, permit) else {
        let copies = PageCopies::copy(process.pid, &process.memory, &own, spares, alone)?;
        return Ok(Copied { found, copies, cloned: None });
    };
    let begin = Instant::now();
    // As the rest would be, for which there are not enough spares.
    let none = &mut Spares::default();
    let mut copies = PageCopies::copy(process.pid, &process.memory, &split.first, none, alone)?;
    let pays = candidate.pays(&split, begin.elapsed(), permit);
    let cloned = if pays { candidate.make(&split, permit)?.map(Box::new) } else { None };
    if cloned.is_none() {
        copies.append(PageCopies::copy(process.pid, &process.memory, &split.rest, spares, alone)?);
    }
    Ok(Copied { found, copies, cloned })
}

/// Of which private pages a mapping has: None if of none.
fn kind(backing: &BackingV1) -> Option<Kind> {
    match backing {
        BackingV1::Anonymous => Some(Kind::Anonymous),
        // Of huge pages, too, the kernel leaves markers in place of what was protected and dropped.
        BackingV1::ShmemPrivate { .. }
        | BackingV1::HugeAnonymous { .. }
        | BackingV1::File { shared: false, .. } => Some(Kind::PrivateFile),
        BackingV1::Shmem { .. }
        | BackingV1::File { shared: true, .. }
        | BackingV1::Vdso
        | BackingV1::Vvar
        | BackingV1::Vsyscall
        | BackingV1::AioRing(_)
        | BackingV1::IoUring { .. }
        | BackingV1::PacketRings { .. } => None,
    }
}

/// Takes out pages that cannot be read: a swap entry in a file mapping may be a marker of the kernel's, and there may be no file under it.
fn past_the_end(process: &Process, vma: &VmaV1, populated: &mut Vec<Range<u64>>) {
    let (end, step) = match &vma.backing {
        BackingV1::File { file, offset, .. } => {
            (vma.start.saturating_add(file.ident.size.saturating_sub(*offset).next_multiple_of(PAGE)), PAGE)
        }
        // There may be no huge page for what is none yet.
        BackingV1::HugeAnonymous { page_size } => (vma.start, *page_size),
        _ => return,
    };
    if populated.last().is_none_or(|last| last.end <= end) {
        return;
    }
    let mut kept = Vec::new();
    for range in populated.iter() {
        for at in (range.start..range.end).step_by(usize::try_from(step).unwrap_or(PAGE_SIZE)) {
            let mut byte = [0];
            if at < end || process.memory.read(RemoteAddr::new(at), &mut byte).is_ok() {
                push(&mut kept, at..range.end.min(at + step));
            }
        }
    }
    *populated = kept;
}

pub(crate) fn count(range: &Range<u64>) -> u64 {
    (range.end - range.start) / PAGE
}

/// Stores what was copied; the job runs meanwhile.
pub(crate) fn store(
    copied: Copied,
    mm: &MmV1,
    writer: &mut CheckpointWriter,
    stats: &mut MemoryStats,
) -> CaptureResult<()> {
    let space = Space::Private(mm.id);
    let Copied { found, copies, cloned } = copied;
    // Before what has been dropped since is told of.
    store_early(stats.early.remove(&found.pid).unwrap_or_default(), found.dirty, space, writer)?;
    for range in &found.live {
        writer.live(space, range.start / PAGE, count(range))?;
        for range in gaps(range, &within(&found.populated, range)) {
            writer.absent(space, range.start / PAGE, count(&range))?;
        }
    }
    // The sooner the clone is gone, the less is copied for the program.
    cloned.map_or(Ok(()), |cloned| cloned.store(found.pid, space, writer))?;
    for (address, bytes) in copies.runs() {
        writer.pages(space, address / PAGE, bytes)?;
    }
    for run in &found.same {
        writer.same(
            space,
            run.start / PAGE,
            run.pages,
            Space::Private(mm::id(run.of)),
            run.of_start / PAGE,
        )?;
    }
    stats.scanned += found.populated.iter().map(count).sum::<u64>();
    Ok(())
}

/// Stores what was copied before the freeze, the newest of each page; pages of `newer` are stored elsewhere.
fn store_early(
    early: Vec<PageCopies>,
    mut newer: Vec<Range<u64>>,
    space: Space,
    writer: &mut CheckpointWriter,
) -> CaptureResult<()> {
    for copies in early.into_iter().rev() {
        for (address, bytes) in copies.runs() {
            let run = address..address + u64::try_from(bytes.len()).unwrap_or(0);
            for part in gaps(&run, &within(&newer, &run)) {
                let at = |address: u64| usize::try_from(address - run.start).unwrap_or(usize::MAX);
                writer.pages(space, part.start / PAGE, &bytes[at(part.start)..at(part.end)])?;
            }
        }
        newer.extend(copies.ranges());
        newer = merged(newer);
    }
    Ok(())
}

/// Stores the contents of memory objects and unlinked files.
pub(crate) fn store_objects(
    objects: &Objects,
    writer: &mut CheckpointWriter,
    stats: &mut MemoryStats,
) -> CaptureResult<()> {
    let shmems = objects.shmems.iter().map(|shmem| (Space::Shmem(shmem.id), shmem.size));
    let ghosts = objects.ghosts.iter().map(|ghost| (Space::Ghost(ghost.id), ghost.size));
    let files = objects.tmpfs_files.iter().map(|file| (Space::Shmem(file.id), file.size));
    for (space, size) in shmems.chain(files).chain(ghosts) {
        let pages = size.div_ceil(PAGE);
        writer.live(space, 0, pages)?;
        writer.absent(space, 0, pages)?;
    }
    for copied in &objects.copied {
        writer.pages(copied.space, copied.first_page, &copied.bytes)?;
    }
    stats.scanned += objects_pages(objects);
    stats.dirty += objects_pages(objects);
    Ok(())
}

/// Pages of memory objects and unlinked files.
pub(crate) fn objects_pages(objects: &Objects) -> u64 {
    objects.copied.iter().map(|copied| u64::try_from(copied.bytes.len() / PAGE_SIZE).unwrap_or(0)).sum()
}
