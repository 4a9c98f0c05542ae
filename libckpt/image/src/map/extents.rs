//! Extents of one space, in rising order. A map of pages is made as a whole many times for each time that one extent is put into its middle, so they are
//! kept in few long rows rather than in many nodes.
use super::{Extent, Value};

/// Extents of a row that others are put into, at most.
const ROW: usize = 256;

/// Extents that rise and do not overlap.
#[derive(Debug, Clone)]
pub(super) struct Extents<V> {
    /// None is empty.
    rows: Vec<Vec<Extent<V>>>,
}

impl<V> Default for Extents<V> {
    fn default() -> Self {
        Self { rows: Vec::new() }
    }
}

impl<V: Value> Extents<V> {
    /// Of extents that rise and do not overlap.
    pub(super) fn of(row: Vec<Extent<V>>) -> Self {
        Self { rows: if row.is_empty() { Vec::new() } else { vec![row] } }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Extent<V>> + Clone {
        self.rows.iter().flatten().copied()
    }

    pub(super) fn rows(&self) -> &[Vec<Extent<V>>] {
        &self.rows
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Extent<V>> {
        self.rows.iter_mut().flatten()
    }

    /// Those that begin at `page` or later, and the last one that begins before it.
    pub(super) fn around(&self, page: u64) -> impl Iterator<Item = Extent<V>> {
        let row = self.row(page);
        let rows = self.rows.get(row..).unwrap_or_default();
        let skipped =
            rows.first().map_or(0, |row| row.partition_point(|e| e.first <= page).saturating_sub(1));
        rows.iter().flatten().skip(skipped).copied()
    }

    /// The last one.
    pub(super) fn last_mut(&mut self) -> Option<&mut Extent<V>> {
        self.rows.last_mut()?.last_mut()
    }

    /// The last one that begins before `page`.
    pub(super) fn before(&self, page: u64) -> Option<Extent<V>> {
        let at = |row: &Vec<Extent<V>>| row[..row.partition_point(|e| e.first < page)].last().copied();
        let row = self.row(page);
        at(self.rows.get(row)?).or_else(|| self.rows[..row].last().and_then(at))
    }

    /// The one that begins at `page`.
    pub(super) fn at(&self, page: u64) -> Option<Extent<V>> {
        let row = self.rows.get(self.row(page))?;
        row.binary_search_by_key(&page, |e| e.first).ok().map(|at| row[at])
    }

    /// Puts one in, where none is.
    pub(super) fn insert(&mut self, extent: Extent<V>) {
        let at = self.row(extent.first);
        let Some(row) = self.rows.get_mut(at) else {
            self.rows.push(vec![extent]);
            return;
        };
        let place = row.partition_point(|e| e.first < extent.first);
        if row.len() < ROW || place == row.len() {
            row.insert(place, extent);
            return;
        }
        // The upper half moves on, so that later ones move less.
        let upper = row.split_off(row.len() / 2);
        if place <= row.len() {
            row.insert(place, extent);
            self.rows.insert(at + 1, upper);
        } else {
            self.rows.insert(at + 1, upper);
            self.insert(extent);
        }
    }

    /// Takes out the one that begins at `page`.
    pub(super) fn remove(&mut self, page: u64) {
        let at = self.row(page);
        let Some(row) = self.rows.get_mut(at) else { return };
        if let Ok(place) = row.binary_search_by_key(&page, |e| e.first) {
            row.remove(place);
            if row.is_empty() {
                self.rows.remove(at);
            }
        }
    }

    /// Keeps those that are wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Extent<V>) -> bool) {
        self.rows.iter_mut().for_each(|row| row.retain(&wanted));
        self.rows.retain(|row| !row.is_empty());
    }

    /// The row that an extent beginning at `page` is or would be in.
    fn row(&self, page: u64) -> usize {
        self.rows.partition_point(|row| row[0].first <= page).saturating_sub(1)
    }
}
