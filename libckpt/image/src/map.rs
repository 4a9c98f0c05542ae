//! Maps from ranges of pages to where they are.
use crate::page::Space;
use std::collections::BTreeMap;
use std::ops::Range;

/// One past the last page number: the address space ends at 2^64.
pub(crate) const END_OF_PAGES: u64 = 1 << 52;

/// What a page range maps to.
pub(crate) trait Value: Copy + PartialEq {
    /// The value of the page `pages` after the one that has this value.
    fn advance(self, pages: u64) -> Self;
}

impl Value for () {
    fn advance(self, _pages: u64) {}
}

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it is zero.
    Absent,
    /// In a pack. Slot `64 * b + i` is page `i` of block `b`; only full blocks are run across.
    Stored {
        /// Number of the pack in the list that goes with the map.
        pack: u32,
        /// Slot.
        slot: u64,
    },
    /// The exclusive or of two pages that are stored: of what changed, and of the page that it changed in, which is a whole one.
    Delta {
        /// Number of the pack that has what changed.
        pack: u32,
        /// Slot.
        slot: u64,
        /// Number of the pack that has the other.
        base_pack: u32,
        /// Its slot.
        base_slot: u64,
    },
}

impl Place {
    /// The pack and slot of each page that is to be read for it: its own, and that of its base.
    pub(crate) fn slots(self) -> impl Iterator<Item = (u32, u64)> {
        let (own, base) = match self {
            Self::Absent => (None, None),
            Self::Stored { pack, slot } => (Some((pack, slot)), None),
            Self::Delta { pack, slot, base_pack, base_slot } => {
                (Some((pack, slot)), Some((base_pack, base_slot)))
            }
        };
        own.into_iter().chain(base)
    }

    /// The same place by other numbers of packs.
    pub(crate) fn renumbered(self, mut number: impl FnMut(u32) -> u32) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Stored { pack, slot } => Self::Stored { pack: number(pack), slot },
            Self::Delta { pack, slot, base_pack, base_slot } => {
                Self::Delta { pack: number(pack), slot, base_pack: number(base_pack), base_slot }
            }
        }
    }
}

impl Value for Place {
    fn advance(self, pages: u64) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Stored { pack, slot } => Self::Stored { pack, slot: slot + pages },
            Self::Delta { pack, slot, base_pack, base_slot } => {
                Self::Delta { pack, slot: slot + pages, base_pack, base_slot: base_slot + pages }
            }
        }
    }
}

/// Pages in a row whose values follow from the first one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent<V> {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) value: V,
}

impl<V: Value> Extent<V> {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }

    /// The part of it within `range`, if any.
    fn clip(&self, range: &Range<u64>) -> Option<Self> {
        let first = self.first.max(range.start);
        let end = self.end().min(range.end);
        (first < end).then(|| Self {
            first,
            count: end - first,
            value: self.value.advance(first - self.first),
        })
    }
}

/// Extents of one space by first page: count and value.
type Extents<V> = BTreeMap<u64, (u64, V)>;

/// A map from pages to values, kept as extents that do not overlap.
#[derive(Debug, Clone)]
pub(crate) struct ExtentMap<V> {
    spaces: BTreeMap<Space, Extents<V>>,
}

/// A set of pages.
pub(crate) type PageSet = ExtentMap<()>;

impl<V> Default for ExtentMap<V> {
    fn default() -> Self {
        Self { spaces: BTreeMap::new() }
    }
}

impl<V: Value> ExtentMap<V> {
    /// Spaces that have pages.
    pub(crate) fn spaces(&self) -> impl Iterator<Item = Space> {
        self.spaces.iter().filter(|(_, e)| !e.is_empty()).map(|(s, _)| *s)
    }

    /// All extents by space and page.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Space, Extent<V>)> {
        self.spaces.iter().flat_map(|(space, extents)| {
            extents.iter().map(|(first, (count, value))| {
                (*space, Extent { first: *first, count: *count, value: *value })
            })
        })
    }

    /// The extents of a space within `range`, clipped to it, by rising page.
    pub(crate) fn range(&self, space: Space, range: Range<u64>) -> impl Iterator<Item = Extent<V>> {
        let extents = self.spaces.get(&space).filter(|_| range.start < range.end);
        let from = extents
            .and_then(|e| e.range(..=range.start).next_back())
            .map_or(range.start, |(first, _)| *first);
        extents.map(|e| e.range(from..range.end)).into_iter().flatten().filter_map(
            move |(first, (count, value))| {
                Extent { first: *first, count: *count, value: *value }.clip(&range)
            },
        )
    }

    /// Gives pages a value, whatever they had before.
    pub(crate) fn insert(&mut self, space: Space, first: u64, count: u64, value: V) {
        if count == 0 {
            return;
        }
        self.remove(space, first..first + count);
        let extents = self.spaces.entry(space).or_default();
        let mut extent = Extent { first, count, value };
        if let Some((before, (n, v))) = extents.range(..first).next_back().map(|(f, e)| (*f, *e))
            && before + n == first
            && v.advance(n) == value
        {
            extent = Extent { first: before, count: n + count, value: v };
        }
        if let Some((n, v)) = extents.get(&extent.end()).copied()
            && extent.value.advance(extent.count) == v
        {
            extents.remove(&extent.end());
            extent.count += n;
        }
        extents.insert(extent.first, (extent.count, extent.value));
    }

    /// Takes pages out.
    pub(crate) fn remove(&mut self, space: Space, range: Range<u64>) {
        let hit: Vec<_> = self.range(space, range.clone()).map(|e| e.first).collect();
        if hit.is_empty() {
            return;
        }
        let Some(extents) = self.spaces.get_mut(&space) else { return };
        for clipped in hit {
            let Some((first, (count, value))) = extents.range(..=clipped).next_back().map(|(f, e)| (*f, *e))
            else {
                continue;
            };
            extents.remove(&first);
            let whole = Extent { first, count, value };
            let kept = [whole.clip(&(first..range.start)), whole.clip(&(range.end..whole.end()))];
            for e in kept.into_iter().flatten() {
                extents.insert(e.first, (e.count, e.value));
            }
        }
    }

    /// The part of it that is in `set`.
    pub(crate) fn within(&self, set: &PageSet) -> Self {
        let mut out = Self::default();
        for (space, live) in set.iter() {
            for e in self.range(space, live.first..live.end()) {
                out.insert(space, e.first, e.count, e.value);
            }
        }
        out
    }

    /// The pages that it has.
    pub(crate) fn pages(&self) -> PageSet {
        let mut out = PageSet::default();
        for (space, e) in self.iter() {
            out.insert(space, e.first, e.count, ());
        }
        out
    }

    /// Puts all of `other` over it.
    pub(crate) fn overlay(&mut self, other: &Self) {
        for (space, e) in other.iter() {
            self.insert(space, e.first, e.count, e.value);
        }
    }

    /// How many pages it has.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.iter().map(|(_, e)| e.count).sum()
    }
}

impl PageSet {
    /// Its pages that are not in `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (space, e) in other.iter() {
            out.remove(space, e.first..e.end());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MmId;

    const S: Space = Space::Private(MmId(1));

    fn at(slot: u64) -> Place {
        Place::Stored { pack: 0, slot }
    }

    #[test]
    fn later_insertions_win_and_neighbours_join() {
        let mut map = ExtentMap::default();
        map.insert(S, 0, 10, at(0));
        map.insert(S, 10, 5, at(10));
        assert_eq!(map.iter().count(), 1);
        map.insert(S, 4, 2, Place::Absent);
        let extents: Vec<_> = map.range(S, 3..12).map(|e| (e.first, e.count, e.value)).collect();
        assert_eq!(extents, [(3, 1, at(3)), (4, 2, Place::Absent), (6, 6, at(6))]);
        map.insert(S, 4, 2, at(4));
        assert_eq!(map.iter().count(), 1);
        assert_eq!(map.count(), 15);
    }

    #[test]
    fn sets_subtract() {
        let mut a = PageSet::default();
        a.insert(S, 0, 100, ());
        let mut b = PageSet::default();
        b.insert(S, 10, 5, ());
        b.insert(S, 95, 50, ());
        let left: Vec<_> = a.minus(&b).iter().map(|(_, e)| (e.first, e.end())).collect();
        assert_eq!(left, [(0, 10), (15, 95)]);
    }
}
