//! Which memory comes late, and in which order.
use crate::error::RestoreResult;
use crate::inherited::Inherited;
use crate::records::Records;
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{BackingV1, MmId, MmV1, RegistersV1, VmaV1, vma_flags};
use std::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;
/// Fewer pages than this are there sooner than somebody could wait for them.
const FEW: u64 = 65;
/// Bytes on top of a stack that its thread is likely to use next.
const STACK_TOP: u64 = 32 << 10;
/// Pages that are filled in one go.
const RUN: u64 = 256;
/// What the kernel keeps in memory, or may throw away.
const NOT_LATE: u64 = vma_flags::LOCKED | vma_flags::LOCK_ON_FAULT | vma_flags::DROPPABLE;

/// What of a job's memory comes late, by address space.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(super) memories: Vec<LateMemory>,
}

/// What of an address space comes late: private anonymous memory that no other process of the job shares pages of since a fork(2). All else is there before
/// the job runs.
#[derive(Debug)]
pub(crate) struct LateMemory {
    /// The address space.
    pub(super) mm: MmId,
    /// Whole mappings, rising.
    pub(super) ranges: Vec<Range<u64>>,
    /// Addresses that its threads are likely to touch first.
    hot: Vec<u64>,
}

impl Plan {
    /// Makes one.
    pub(super) fn of(image: &Image) -> RestoreResult<Self> {
        let records = Records::read(image)?;
        let memories = records.mms().iter().map(|mm| LateMemory {
            mm: mm.id,
            ranges: mm
                .vmas
                .iter()
                .filter(|_| !records.handled_faults.any(mm.id))
                .filter(|vma| comes_late(image, mm, vma) && !is_shared(records.mms(), mm, vma))
                .map(|vma| vma.start..vma.end)
                .collect(),
            hot: hot(&records, mm.id),
        });
        Ok(Self { memories: memories.filter(|memory| !memory.ranges.is_empty()).collect() })
    }

    /// Whether a mapping comes late.
    pub(crate) fn has(&self, mm: MmId, vma: &VmaV1) -> bool {
        self.memory(mm).is_some_and(|(_, memory)| {
            memory.ranges.binary_search_by_key(&vma.start, |range| range.start).is_ok()
        })
    }

    /// What comes late of an address space, and its number.
    pub(super) fn memory(&self, mm: MmId) -> Option<(u64, &LateMemory)> {
        (0..).zip(&self.memories).find(|(_, memory)| memory.mm == mm)
    }
}

fn comes_late(image: &Image, mm: &MmV1, vma: &VmaV1) -> bool {
    let pages = vma.start / PAGE..vma.end / PAGE;
    vma.backing == BackingV1::Anonymous
        && vma.flags & NOT_LATE == 0
        && image.has_pages(Space::Private(mm.id), pages, FEW)
}

/// Whether another process may have inherited it, or it may be inherited: what came from one page is to be one page again.
fn is_shared(mms: &[MmV1], mm: &MmV1, vma: &VmaV1) -> bool {
    mms.iter().filter(|other| other.id != mm.id).any(|other| {
        Inherited::find(mm, Some(other)).has(vma) || Inherited::find(other, Some(mm)).takes_from(vma)
    })
}

/// Where registers point to.
fn hot(records: &Records, mm: MmId) -> Vec<u64> {
    let mut hot = Vec::new();
    for task in records.tasks.iter().filter(|task| task.mm == mm) {
        for thread in records.threads(task.pid) {
            let RegistersV1::X86_64 { gpr, .. } = &thread.registers;
            let words = ckpt_sys::arch::Gpr::from_words(*gpr);
            let stack = words.stack_pointer();
            hot.extend((0..STACK_TOP / PAGE).map(|page| stack.saturating_add(page * PAGE)));
            hot.extend(gpr);
            hot.extend(thread.rseq.as_ref().map(|rseq| rseq.address));
            hot.extend([thread.robust_list.0, thread.clear_child_tid]);
        }
    }
    hot
}

impl LateMemory {
    /// The pages that the image has, by address.
    pub(super) fn pages(&self, image: &Image) -> Vec<Range<u64>> {
        let runs =
            |range: &Range<u64>| image.runs(Space::Private(self.mm), range.start / PAGE..range.end / PAGE);
        let present = self.ranges.iter().flat_map(runs).filter(|run| run.present);
        present.map(|run| run.first_page * PAGE..(run.first_page + run.count) * PAGE).collect()
    }

    /// The same in the order in which they are filled: first what the threads are about to use, then what changed in the newest checkpoints, then the rest.
    pub(super) fn order(&self, image: &Image) -> Vec<Range<u64>> {
        let space = Space::Private(self.mm);
        let is_late = |address: &u64| self.ranges.iter().any(|range| range.contains(address));
        let mut order = Vec::new();
        for address in self.hot.iter().filter(|address| is_late(address)) {
            let block = image.block_around(space, address / PAGE);
            let block = block.map(|pages| pages.start * PAGE..pages.end * PAGE);
            order.extend(block.filter(|block| !order.contains(block)));
        }
        let mut parts = Vec::new();
        for range in &self.ranges {
            parts.extend(image.by_age(space, range.start / PAGE..range.end / PAGE));
        }
        parts.sort_by_key(|(pack, pages)| (std::cmp::Reverse(*pack), pages.start));
        for (_, pages) in parts {
            let mut next = pages.start;
            while next < pages.end {
                let end = pages.end.min((next / RUN + 1) * RUN);
                order.push(next * PAGE..end * PAGE);
                next = end;
            }
        }
        order
    }
}
