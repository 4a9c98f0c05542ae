//! Maps from ranges of pages to where they are.
mod cursor;
mod extents;

use crate::page::Space;
use cursor::Cursor;
use extents::Extents;
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

    /// Whether `next` goes on where this one ends.
    fn goes_on_in(&self, next: &Self) -> bool {
        self.end() == next.first && self.value.advance(self.count) == next.value
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
        self.spaces.iter().flat_map(|(space, extents)| extents.iter().map(|e| (*space, e)))
    }

    /// The extents of a space within `range`, clipped to it, by rising page.
    pub(crate) fn range(&self, space: Space, range: Range<u64>) -> impl Iterator<Item = Extent<V>> {
        let extents = self.spaces.get(&space).filter(|_| range.start < range.end);
        let around = extents.map(|extents| extents.around(range.start)).into_iter().flatten();
        let end = range.end;
        around.take_while(move |e| e.first < end).filter_map(move |e| e.clip(&range))
    }

    /// Of extents by space and page that do not overlap.
    pub(crate) fn rising(all: impl IntoIterator<Item = (Space, Extent<V>)>) -> Self {
        let all = all.into_iter();
        let mut rows = Rising::with_capacity(all.size_hint().0);
        for (space, e) in all {
            let added = rows.push(space, e);
            debug_assert!(added.is_some());
        }
        rows.map()
    }

    /// The same pages with other values.
    pub(crate) fn with<W: Value>(&self, mut value: impl FnMut(V) -> W) -> ExtentMap<W> {
        let mut row = |extents: &Extents<V>| {
            let mut row = Row(Vec::with_capacity(extents.len()));
            extents
                .iter()
                .for_each(|e| row.push(Extent { first: e.first, count: e.count, value: value(e.value) }));
            row.extents()
        };
        ExtentMap { spaces: self.spaces.iter().map(|(space, extents)| (*space, row(extents))).collect() }
    }

    /// Gives each extent another value, such that those in a row still follow from each other.
    pub(crate) fn replace(&mut self, mut value: impl FnMut(V) -> V) {
        self.spaces
            .values_mut()
            .for_each(|extents| extents.iter_mut().for_each(|e| e.value = value(e.value)));
    }

    /// The extents that are wanted.
    pub(crate) fn retain(&mut self, wanted: impl Fn(V) -> bool) {
        self.spaces.values_mut().for_each(|extents| extents.retain(|e| wanted(e.value)));
    }

    /// Gives pages a value, whatever they had before.
    pub(crate) fn insert(&mut self, space: Space, first: u64, count: u64, value: V) {
        if count == 0 {
            return;
        }
        let extents = self.spaces.entry(space).or_default();
        let mut extent = Extent { first, count, value };
        match extents.last_mut() {
            Some(last) if last.goes_on_in(&extent) => {
                last.count += count;
                return;
            }
            Some(last) if last.end() > first => {}
            _ => {
                extents.insert(extent);
                return;
            }
        }
        self.remove(space, first..first + count);
        let extents = self.spaces.entry(space).or_default();
        if let Some(before) = extents.before(first)
            && before.goes_on_in(&extent)
        {
            extents.remove(before.first);
            extent = Extent { count: before.count + count, ..before };
        }
        if let Some(after) = extents.at(extent.end())
            && extent.goes_on_in(&after)
        {
            extents.remove(after.first);
            extent.count += after.count;
        }
        extents.insert(extent);
    }

    /// Takes pages out.
    pub(crate) fn remove(&mut self, space: Space, range: Range<u64>) {
        let Some(extents) = self.spaces.get_mut(&space).filter(|_| !range.is_empty()) else { return };
        let around = extents.around(range.start).take_while(|e| e.first < range.end);
        let hit: Vec<_> = around.filter(|e| e.end() > range.start).collect();
        for whole in hit {
            extents.remove(whole.first);
            let kept = [whole.clip(&(whole.first..range.start)), whole.clip(&(range.end..whole.end()))];
            kept.into_iter().flatten().for_each(|e| extents.insert(e));
        }
    }

    /// The part of it that is in `set`.
    pub(crate) fn within(&self, set: &PageSet) -> Self {
        let both = |(space, live): (&Space, &Extents<()>)| {
            let extents = self.spaces.get(space)?;
            let mut row = Row(Vec::with_capacity(extents.len()));
            let mut cursor = Cursor::of(extents);
            live.iter().for_each(|live| cursor.copy(live.first..live.end(), &mut row));
            Some((*space, row.extents()))
        };
        Self { spaces: set.spaces.iter().filter_map(both).collect() }
    }

    /// The pages that it has.
    pub(crate) fn pages(&self) -> PageSet {
        self.with(|_| ())
    }

    /// Puts all of `other` over it.
    pub(crate) fn overlay(&mut self, other: Self) {
        // An insertion takes some times longer than to pass an extent by.
        const FEW: usize = 128;
        for (space, over) in other.spaces {
            let under = self.spaces.entry(space).or_default();
            if under.is_empty() {
                *under = over;
            } else if over.len() > under.len() / FEW {
                *under = laid_over(under, &over);
            } else {
                over.iter().for_each(|e| self.insert(space, e.first, e.count, e.value));
            }
        }
    }

    /// How many pages it has.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.iter().map(|(_, e)| e.count).sum()
    }
}

/// A map that is made of extents by space and page, which takes a fraction of the time that it takes to insert them.
pub(crate) struct Rising<V> {
    rows: Vec<(Space, Row<V>)>,
    /// How many there may still be.
    left: usize,
}

impl<V: Value> Rising<V> {
    /// With room for so many.
    pub(crate) fn with_capacity(extents: usize) -> Self {
        Self { rows: Vec::new(), left: extents }
    }

    /// Adds one; None if it does not come after those that are there.
    pub(crate) fn push(&mut self, space: Space, e: Extent<V>) -> Option<()> {
        match self.rows.last_mut() {
            Some((last, row)) if *last == space => {
                row.0.last().is_none_or(|last| last.end() <= e.first).then(|| row.push(e))?;
            }
            Some((last, _)) if *last > space => return None,
            _ => {
                let mut row = Row(Vec::with_capacity(self.left));
                row.push(e);
                self.rows.push((space, row));
            }
        }
        self.left = self.left.saturating_sub(1);
        Some(())
    }

    /// All of them.
    pub(crate) fn map(self) -> ExtentMap<V> {
        ExtentMap { spaces: self.rows.into_iter().map(|(space, row)| (space, row.extents())).collect() }
    }
}

/// Extents in rising order, those joined that follow from the one before.
struct Row<V>(Vec<Extent<V>>);

impl<V: Value> Row<V> {
    fn push(&mut self, e: Extent<V>) {
        match self.0.last_mut() {
            Some(last) if last.goes_on_in(&e) => last.count += e.count,
            _ => {
                debug_assert!(self.0.last().is_none_or(|last| last.end() <= e.first));
                self.0.push(e);
            }
        }
    }

    /// Of several that rise, none of which goes on in the next.
    fn extend(&mut self, extents: &[Extent<V>]) {
        if let Some((first, others)) = extents.split_first() {
            self.push(*first);
            self.0.extend_from_slice(others);
        }
    }

    fn extents(self) -> Extents<V> {
        Extents::of(self.0)
    }
}

/// All of `over`, and of `under` what is not below it.
fn laid_over<V: Value>(under: &Extents<V>, over: &Extents<V>) -> Extents<V> {
    let mut row = Row(Vec::with_capacity(under.len() + 2 * over.len()));
    let mut cursor = Cursor::of(under);
    let mut covered = 0;
    for e in over.iter() {
        cursor.copy(covered..e.first, &mut row);
        row.push(e);
        covered = e.end();
    }
    cursor.copy(covered..END_OF_PAGES, &mut row);
    row.extents()
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
    fn what_is_laid_over_is_as_if_inserted_one_by_one() {
        // A few thousand small cases, told apart by the bits of a number.
        let map = |bits: u64, slot: u64| {
            let mut map = ExtentMap::default();
            for page in (0..12).filter(|page| bits >> page & 1 == 1) {
                map.insert(
                    S,
                    page,
                    1,
                    if bits >> (page + 12) & 1 == 1 { at(slot + page) } else { at(100 * page) },
                );
            }
            map
        };
        let mut number = 88_172_645_463_325_252_u64;
        for _ in 0..4000 {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            let (under, over) = (map(number & 0xff_ffff, 1000), map(number >> 24, 2000));
            let mut wanted = under.clone();
            over.iter().for_each(|(space, e)| wanted.insert(space, e.first, e.count, e.value));
            let mut got = under.clone();
            got.overlay(over.clone());
            assert!(got.iter().eq(wanted.iter()), "{under:?} {over:?}");
            let mut within = ExtentMap::default();
            for page in over.iter().flat_map(|(_, e)| e.first..e.end()) {
                under.range(S, page..page + 1).for_each(|e| within.insert(S, page, 1, e.value));
            }
            assert!(under.within(&over.pages()).iter().eq(within.iter()), "{under:?} {over:?}");
        }
    }

    #[test]
    fn a_map_of_many_rows_is_as_one_page_after_the_other() {
        let mut number = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: u64| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            number % below
        };
        let (mut map, mut pages) = (ExtentMap::default(), BTreeMap::new());
        for slot in 0..40_000 {
            let (first, count) = (next(8000), next(6));
            if next(4) == 0 {
                map.remove(S, first..first + count);
                pages.retain(|page, _| !(first..first + count).contains(page));
            } else {
                map.insert(S, first, count, at(10 * slot));
                pages.extend((0..count).map(|n| (first + n, at(10 * slot + n))));
            }
        }
        let mut of_each = BTreeMap::new();
        for (_, e) in map.iter() {
            of_each.extend((0..e.count).map(|n| (e.first + n, e.value.advance(n))));
        }
        assert_eq!(of_each, pages);
        let (from, to) = (1234, 5678);
        let within: u64 = map.range(S, from..to).map(|e| e.count).sum();
        assert_eq!(within, u64::try_from(pages.range(from..to).count()).unwrap());
    }

    #[test]
    fn what_does_not_rise_is_refused() {
        let extent = |first, count| Extent { first, count, value: at(first) };
        let mut rows = Rising::with_capacity(3);
        assert!(rows.push(S, extent(0, 3)).is_some());
        assert!(rows.push(S, extent(2, 3)).is_none());
        assert!(rows.push(S, extent(3, 3)).is_some());
        assert!(rows.push(Space::Private(MmId(0)), extent(9, 1)).is_none());
        assert_eq!(rows.map().iter().collect::<Vec<_>>(), [(S, extent(0, 6))]);
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
