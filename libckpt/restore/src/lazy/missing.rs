//! The pages of an address space that are still to be filled, wherever the program has moved them since.
use std::collections::BTreeMap;
use std::ops::Range;

/// Pages in a row that are to be filled from pages in a row of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Where they go.
    pub(super) address: u64,
    /// Where they were when they were saved.
    pub(super) source: u64,
    /// Bytes.
    pub(super) len: u64,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Missing {
    /// End and source by address.
    runs: BTreeMap<u64, (u64, u64)>,
}

impl Missing {
    /// Adds pages that are not in it.
    pub(super) fn insert(&mut self, part: Part) {
        self.runs.insert(part.address, (part.address + part.len, part.source));
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// All of them.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        self.runs.iter().map(|(start, (end, _))| *start..*end).collect()
    }

    /// Those within `range`.
    pub(super) fn parts(&self, range: &Range<u64>) -> Vec<Part> {
        let before = self.runs.range(..range.start).next_back();
        let within = self.runs.range(range.start..range.end.max(range.start));
        let clip = |(start, (end, source)): (&u64, &(u64, u64))| {
            let (from, to) = ((*start).max(range.start), (*end).min(range.end));
            (from < to).then(|| Part { address: from, source: source + (from - start), len: to - from })
        };
        before.into_iter().chain(within).filter_map(clip).collect()
    }

    /// Takes the pages of `range` out.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        for part in self.parts(range) {
            let at = self.runs.range(..=part.address).next_back();
            let Some((start, (end, source))) = at.map(|(start, run)| (*start, *run)) else { continue };
            self.runs.remove(&start);
            let part_end = part.address + part.len;
            if start < part.address {
                self.runs.insert(start, (part.address, source));
            }
            if part_end < end {
                self.runs.insert(part_end, (end, source + (part_end - start)));
            }
        }
    }

    /// The program has moved `from` to `to`.
    pub(super) fn moved(&mut self, from: &Range<u64>, to: u64) {
        let parts = self.parts(from);
        self.remove(from);
        self.remove(&(to..to + (from.end - from.start)));
        for part in parts {
            self.insert(Part { address: to + (part.address - from.start), ..part });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> Missing {
        let mut missing = Missing::default();
        missing.insert(Part { address: 0x10_000, source: 0x10_000, len: 0x8000 });
        missing.insert(Part { address: 0x20_000, source: 0x20_000, len: 0x1000 });
        missing
    }

    #[test]
    fn what_is_taken_out_of_the_middle_leaves_both_ends() {
        let mut missing = missing();
        missing.remove(&(0x12_000..0x14_000));
        assert_eq!(
            missing.parts(&(0..u64::MAX)),
            [
                Part { address: 0x10_000, source: 0x10_000, len: 0x2000 },
                Part { address: 0x14_000, source: 0x14_000, len: 0x4000 },
                Part { address: 0x20_000, source: 0x20_000, len: 0x1000 },
            ]
        );
        missing.remove(&(0..u64::MAX));
        assert!(missing.is_empty());
    }

    #[test]
    fn what_is_moved_keeps_its_source() {
        let mut missing = missing();
        missing.moved(&(0x11_000..0x13_000), 0x20_000);
        assert_eq!(
            missing.parts(&(0x12_000..0x30_000)),
            [
                Part { address: 0x13_000, source: 0x13_000, len: 0x5000 },
                Part { address: 0x20_000, source: 0x11_000, len: 0x2000 },
            ]
        );
        assert_eq!(
            missing.parts(&(0x21_000..0x22_000)),
            [Part { address: 0x21_000, source: 0x12_000, len: 0x1000 }]
        );
    }
}
