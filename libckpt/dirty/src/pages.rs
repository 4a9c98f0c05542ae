//! What the page map says of one mapping.
use crate::ranges::push;
use ckpt_sys::pagemap::{PageRegion, category};
use std::ops::Range;

/// How pages of a mapping are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Private and anonymous: what is not populated is zero.
    Anonymous,
    /// Private, of a file or of shared memory: only pages that the program has written are its own.
    PrivateFile,
    /// Shared memory: pages belong to the object behind the mapping.
    Shared,
}

/// The pages of one mapping, as address ranges of whole pages, rising.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Pages with contents: present or swapped out; of a private file mapping, the program's own copies only; no zero pages.
    pub populated: Vec<Range<u64>>,
    /// Those of them that may have changed since the last look.
    pub dirty: Vec<Range<u64>>,
    /// Guard pages (MADV_GUARD_INSTALL).
    pub guards: Vec<Range<u64>>,
}

impl Pages {
    /// Sorts the pages of `whole`: `regions` of it, rising, and the others, which are present and have not been written. `doubtful` ranges, by rising
    /// start, count as dirty whatever their pages say.
    pub(crate) fn sort(
        whole: Range<u64>,
        regions: &[PageRegion],
        kind: Kind,
        doubtful: &[Range<u64>],
    ) -> Self {
        let mut pages = Self::default();
        let mut next = whole.start;
        for region in regions {
            let has = |bits: u64| region.categories & bits != 0;
            let range = region.start..region.end;
            pages.push_clean(next..range.start, doubtful);
            next = range.end;
            if !has(category::PRESENT | category::SWAPPED) {
                continue;
            }
            if has(category::GUARD) {
                push(&mut pages.guards, range);
                continue;
            }
            // The zero page is the one case of an anonymous page that holds nothing.
            let skip = match kind {
                Kind::Anonymous => has(category::PFNZERO),
                Kind::PrivateFile => has(category::FILE),
                Kind::Shared => false,
            };
            if skip {
                continue;
            }
            // In a file mapping, a swap entry may also be a marker left by a protected page that was dropped: reading it tells.
            let marker = kind != Kind::Anonymous && has(category::SWAPPED);
            if has(category::WRITTEN) || !has(category::WPALLOWED) || marker {
                push(&mut pages.populated, range.clone());
                push(&mut pages.dirty, range);
            } else {
                pages.push_clean(range, doubtful);
            }
        }
        pages.push_clean(next..whole.end, doubtful);
        pages
    }

    fn push_clean(&mut self, range: Range<u64>, doubtful: &[Range<u64>]) {
        if range.is_empty() {
            return;
        }
        for doubt in doubtful {
            let overlap = range.start.max(doubt.start)..range.end.min(doubt.end);
            if !overlap.is_empty() {
                push(&mut self.dirty, overlap);
            }
        }
        push(&mut self.populated, range);
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, as everywhere here
mod tests {
    use super::*;
    use category::{FILE, GUARD, PFNZERO, PRESENT, SWAPPED, WPALLOWED, WRITTEN};

    fn region(start: u64, end: u64, categories: u64) -> PageRegion {
        PageRegion { start, end, categories }
    }

    #[test]
    fn zero_and_guard_pages_hold_nothing() {
        let regions = [
            region(0x0000, 0x1000, WPALLOWED),
            region(0x1000, 0x2000, PRESENT | WPALLOWED | WRITTEN),
            region(0x3000, 0x4000, PRESENT | PFNZERO | WPALLOWED | WRITTEN),
            region(0x4000, 0x5000, SWAPPED | GUARD | WPALLOWED),
            region(0x5000, 0x6000, SWAPPED | WPALLOWED),
        ];
        let pages = Pages::sort(0..0x6000, &regions, Kind::Anonymous, &[]);
        assert_eq!(pages.populated, [0x1000..0x3000, 0x5000..0x6000]);
        assert_eq!(pages.dirty, vec![0x1000..0x2000]);
        assert_eq!(pages.guards, vec![0x4000..0x5000]);
    }

    #[test]
    fn unregistered_or_doubtful_is_dirty() {
        let regions = [region(0x1000, 0x2000, PRESENT), region(0x2000, 0x4000, WPALLOWED)];
        let doubtful = [0x5000..0x6000, 0x7000..0x9000];
        let pages = Pages::sort(0x1000..0x8000, &regions, Kind::Anonymous, &doubtful);
        assert_eq!(pages.dirty, [0x1000..0x2000, 0x5000..0x6000, 0x7000..0x8000]);
    }

    #[test]
    fn pages_of_the_file_are_not_the_programs() {
        let regions =
            [region(0x1000, 0x2000, PRESENT | FILE | WRITTEN), region(0x3000, 0x4000, SWAPPED | WPALLOWED)];
        let pages = Pages::sort(0x1000..0x4000, &regions, Kind::PrivateFile, &[]);
        assert_eq!(pages.populated, vec![0x2000..0x4000]);
        assert_eq!(pages.dirty, vec![0x3000..0x4000]);
    }
}
