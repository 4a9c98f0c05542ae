//! Copying ranges of a map that rise, most of it as it is.
use super::extents::Extents;
use super::{Extent, Row, Value};
use std::ops::Range;

/// A place in a map, from which on ranges are asked for.
pub(super) struct Cursor<'a, V> {
    /// The extents of the row that it is in, from it on.
    here: &'a [Extent<V>],
    later: std::slice::Iter<'a, Vec<Extent<V>>>,
}

impl<'a, V: Value> Cursor<'a, V> {
    /// Before the first one.
    pub(super) fn of(extents: &'a Extents<V>) -> Self {
        let mut later = extents.rows().iter();
        Self { here: later.next().map_or(&[], Vec::as_slice), later }
    }

    /// Gives the extents within `range`, clipped to it, to `row`. The next range begins where this one ends, or later.
    pub(super) fn copy(&mut self, range: Range<u64>, row: &mut Row<V>) {
        if range.is_empty() {
            return;
        }
        loop {
            self.here = &self.here[leading(self.here, |e| e.end() <= range.start)..];
            let whole = leading(self.here, |e| e.first >= range.start && e.end() <= range.end);
            row.extend(&self.here[..whole]);
            self.here = &self.here[whole..];
            match self.here.first() {
                // It begins before the range, and may not be the last one there.
                Some(e) if e.first < range.start && e.end() <= range.end => {
                    row.extend(e.clip(&range).as_slice());
                    self.here = &self.here[1..];
                }
                Some(e) => return row.extend(e.clip(&range).as_slice()),
                None => match self.later.next() {
                    Some(next) => self.here = next,
                    None => return,
                },
            }
        }
    }
}

/// How many of the first extents are so; none is behind one that is not. As a rule they are few.
fn leading<V>(extents: &[Extent<V>], so: impl Fn(&Extent<V>) -> bool) -> usize {
    let mut bound = 1;
    while extents.get(bound - 1).is_some_and(&so) {
        bound *= 2;
    }
    let from = bound / 2;
    from + extents[from..extents.len().min(bound)].partition_point(so)
}
