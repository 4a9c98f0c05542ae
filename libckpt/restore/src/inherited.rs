//! Memory that a process has from its parent: mappings that are the same in both stay, and their pages stay shared until one of the two writes.
use crate::builder::Builder;
use crate::error::RestoreResult;
use crate::{pages, vma};
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{BackingV1, MmV1, VmaV1, vma_flags};
use std::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;
/// What fork(2) copies and nothing can change later, or only in part.
const SAME: u64 = vma_flags::GROWSDOWN
    | vma_flags::NORESERVE
    | vma_flags::HUGEPAGE
    | vma_flags::NOHUGEPAGE
    | vma_flags::DONTDUMP
    | vma_flags::MERGEABLE
    | vma_flags::SEQUENTIAL
    | vma_flags::RANDOM
    | vma_flags::SYNC;
/// Of these the child gets nothing, or nothing that is in them.
const NOT_COPIED: u64 = vma_flags::DONTFORK | vma_flags::WIPEONFORK | vma_flags::DROPPABLE;

/// A mapping that stays, and that of the parent that it is of.
#[derive(Debug, Clone, Copy)]
struct Kept<'a> {
    vma: &'a VmaV1,
    parent: &'a VmaV1,
}

/// What stays of the memory of the process that a new one is a copy of.
#[derive(Debug)]
pub(crate) struct Inherited<'a> {
    spaces: Option<(Space, Space)>,
    kept: Vec<Kept<'a>>,
}

impl<'a> Inherited<'a> {
    /// Of the address space `mm` of a copy of a process with the address space `parent`.
    pub(crate) fn find(mm: &'a MmV1, parent: Option<&'a MmV1>) -> Self {
        let program = |mm: &'a MmV1| (&mm.exe, &mm.exe_ident);
        let Some(parent) = parent.filter(|parent| program(parent) == program(mm)) else {
            return Self { spaces: None, kept: Vec::new() };
        };
        let find = |vma: &'a VmaV1| {
            let covers = |other: &&VmaV1| other.start <= vma.start && vma.end <= other.end;
            let parent = parent.vmas.iter().find(covers).filter(|other| same_kind(vma, other))?;
            Some(Kept { vma, parent })
        };
        let kept = mm.vmas.iter().filter_map(find).collect();
        Self { spaces: Some((Space::Private(mm.id), Space::Private(parent.id))), kept }
    }

    /// Whether anything stays.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether this mapping stays.
    pub(crate) fn has(&self, vma: &VmaV1) -> bool {
        self.kept.binary_search_by_key(&vma.start, |kept| kept.vma.start).is_ok()
    }

    /// Whether anything stays of this mapping of the parent's.
    pub(crate) fn takes_from(&self, vma: &VmaV1) -> bool {
        self.kept.iter().any(|kept| kept.parent.start == vma.start)
    }

    /// The addresses of what stays.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.kept.iter().map(|kept| kept.vma.start..kept.vma.end)
    }

    /// Gives what stays the protection and those pages that the image has for the child and not for the parent.
    pub(crate) fn settle(&self, builder: &mut Builder<'_>, image: &Image) -> RestoreResult<()> {
        let Some((own, parent)) = self.spaces else { return Ok(()) };
        for kept in &self.kept {
            let vma = kept.vma;
            if vma.prot != kept.parent.prot {
                let args = [vma.start, vma.end - vma.start, u64::from(vma.prot)];
                builder.call("mprotect", &vma::describe(vma), libc::SYS_mprotect, &args)?;
            }
            let changes = Changes::find(kept, image, own, parent);
            for range in changes.gone {
                let advice = u64::from(libc::MADV_DONTNEED.unsigned_abs());
                let args = [range.start, range.end - range.start, advice];
                let call = "madvise(MADV_DONTNEED)";
                builder.call(call, &vma::describe(vma), libc::SYS_madvise, &args)?;
            }
            pages::update(builder.remote.pid(), builder.remote.memory(), image, own, &changes.differ)?;
        }
        Ok(())
    }
}

fn same_kind(vma: &VmaV1, parent: &VmaV1) -> bool {
    let backing = match (&vma.backing, &parent.backing) {
        (BackingV1::Anonymous, BackingV1::Anonymous) => true,
        (
            BackingV1::File { file, offset, shared: false },
            BackingV1::File { file: parents, offset: parents_offset, shared: false },
        ) => file == parents && offset - parents_offset == vma.start - parent.start,
        _ => false,
    };
    backing
        && vma.flags & SAME == parent.flags & SAME
        && vma.flags & vma_flags::DROPPABLE == 0
        && parent.flags & NOT_COPIED == 0
        && (vma.protection_key, &vma.name, vma.max_prot)
            == (parent.protection_key, &parent.name, parent.max_prot)
        && parent.guards.is_empty()
}

/// Where the child's pages are not the parent's: address ranges.
#[derive(Debug, Default)]
struct Changes {
    /// The child has none.
    gone: Vec<Range<u64>>,
    /// The child has others.
    differ: Vec<Range<u64>>,
}

impl Changes {
    fn find(kept: &Kept<'_>, image: &Image, own: Space, parent: Space) -> Self {
        let vma = kept.vma;
        let mut changes = Self::default();
        let compare = |range: Range<u64>| image.compare(own, parent, range.start / PAGE..range.end / PAGE);
        let addresses = |first: u64, count: u64| first * PAGE..(first + count) * PAGE;
        if vma.backing == BackingV1::Anonymous {
            for run in compare(vma.start..vma.end).iter().filter(|run| !run.same) {
                let range = addresses(run.first_page, run.count);
                if run.present { changes.differ.push(range) } else { changes.gone.push(range) }
            }
            return changes;
        }
        // In a mapping of a file, a page that neither has may be zero or the file's.
        for range in cuts(vma, kept.parent) {
            match (has_copy(vma, &range), has_copy(kept.parent, &range)) {
                (true, true) => {
                    let runs = compare(range);
                    let differ = runs.iter().filter(|run| !run.same);
                    changes.differ.extend(differ.map(|run| addresses(run.first_page, run.count)));
                }
                (true, false) => changes.differ.push(range),
                (false, true) => changes.gone.push(range),
                (false, false) => {}
            }
        }
        changes
    }
}

/// The mapping cut where copies of either begin or end.
fn cuts(vma: &VmaV1, parent: &VmaV1) -> Vec<Range<u64>> {
    let copies = vma.copies.iter().chain(&parent.copies);
    let mut cuts: Vec<u64> = copies.flat_map(|(start, end)| [*start, *end]).collect();
    cuts.extend([vma.start, vma.end]);
    cuts.retain(|cut| (vma.start..=vma.end).contains(cut));
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

fn has_copy(vma: &VmaV1, range: &Range<u64>) -> bool {
    vma.copies.iter().any(|(start, end)| *start <= range.start && range.end <= *end)
}
