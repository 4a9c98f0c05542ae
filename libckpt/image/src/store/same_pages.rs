//! Pages that processes share: stored once, and referred to by each.
use super::chain::PackSet;
use crate::map::{ExtentMap, Place, Value};
use crate::page::Space;
use std::ops::Range;

/// Pages in a row that are the same as others.
#[derive(Debug, Clone, Copy)]
struct Same {
    space: Space,
    first: u64,
    count: u64,
    of: Space,
    of_first: u64,
}

impl Same {
    fn of_range(&self) -> Range<u64> {
        self.of_first..self.of_first + self.count
    }
}

/// Which pages of a checkpoint are the same as others of it.
#[derive(Debug, Default)]
pub(super) struct SamePages(Vec<Same>);

impl SamePages {
    /// `count` pages of `space` from `first` on are those of `of` from `of_first` on.
    pub(super) fn add(&mut self, space: Space, first: u64, count: u64, of: Space, of_first: u64) {
        if count > 0 {
            self.0.push(Same { space, first, count, of, of_first });
        }
    }

    /// Whether some of the others are not in `map`, what the checkpoint itself says of pages.
    pub(super) fn need_parent(&self, map: &ExtentMap<Place>) -> bool {
        let known = |same: &Same| map.range(same.of, same.of_range()).map(|e| e.count).sum::<u64>();
        self.0.iter().any(|same| known(same) < same.count)
    }

    /// Puts them into `map`, whose pack numbers are those of `packs`. What the checkpoint itself does not have is looked for in `parent`, whose pack
    /// numbers are those of `theirs`; packs that are needed of those are added to `packs`.
    pub(super) fn resolve(
        &self,
        map: &mut ExtentMap<Place>,
        packs: &mut PackSet,
        theirs: &PackSet,
        parent: &ExtentMap<Place>,
    ) {
        let mut found = Vec::new();
        for same in &self.0 {
            let mut put = |page: u64, count: u64, place: Place| {
                found.push((same.space, same.first + (page - same.of_first), count, place));
            };
            let mut next = same.of_first;
            let end = same.of_range().end;
            let own: Vec<_> = map.range(same.of, same.of_range()).collect();
            for (first, own) in own.iter().map(|e| (e.first, Some(e))).chain([(end, None)]) {
                // What neither has holds nothing.
                put(next, first - next, Place::Absent);
                for e in parent.range(same.of, next..first) {
                    put(e.first, e.count, renumber(e.value, packs, theirs));
                }
                if let Some(own) = own {
                    put(own.first, own.count, own.value);
                    next = own.end();
                }
            }
        }
        for (space, first, count, place) in found {
            map.insert(space, first, count, place.advance(0));
        }
    }
}

fn renumber(place: Place, packs: &mut PackSet, theirs: &PackSet) -> Place {
    place.renumbered(|pack| match usize::try_from(pack).ok().and_then(|n| theirs.files.get(n)) {
        Some(file) => packs.number(file),
        None => u32::MAX,
    })
}
