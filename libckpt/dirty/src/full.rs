//! A quicker look at mappings most of whose pages are there and were not written: the kernel passes by such a page in a third of the time when it is asked for
//! nothing but what was written (the PAGE_IS_WRITTEN path of pagemap_scan_pmd_entry in fs/proc/task_mmu.c).
//!
//! It then tells of pages that are not there as well: what it tells of is looked at once more. Some kernels pass by a whole page table that is not there, as when all its
//! pages were given back, or a huge page (MADV_DONTNEED): there, one page is asked for of each table that they have nothing to tell of.
use crate::pages::Kind;
use crate::parts::{TABLE, look_in_parts};
use crate::tracker::{Tracker, spans};
use ckpt_sys::pagemap::{self, CHECK_WPASYNC, PageRegion, Query, category};
use ckpt_sys::{SysResult, numa};
use std::ops::Range;
use std::sync::OnceLock;

/// Bytes that are looked at in one way. Where the quick look did not pay, it is tried again after as many, then twice as many, and so on: reservations are large.
const STRETCH: u64 = 32 * TABLE;

/// Finds out, once, what the kernel tells: that takes longer than it should in the pause.
pub(crate) fn prepare() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| {
        let tells = pagemap::tells_of_missing_tables();
        tells
            .inspect_err(|error| tracing::debug!(%error, "page tables are asked for one by one"))
            .unwrap_or(false)
    })
}

/// What there is to tell of the pages of a private anonymous mapping of a stopped process, which `tracker` has a userfaultfd of.
///
/// # Errors
/// EPERM: the mapping is not registered with it.
pub(crate) fn look(tracker: &Tracker, mapping: Range<u64>) -> SysResult<Vec<PageRegion>> {
    Ok(look_in_parts(mapping, |part| look_at_part(tracker, part))?.concat())
}

fn look_at_part(tracker: &Tracker, part: Range<u64>) -> SysResult<Vec<PageRegion>> {
    let mut regions = Vec::new();
    let mut patience = STRETCH;
    let mut rest = part;
    let mut take = |bytes: u64| {
        let end = rest.start.saturating_add(bytes).next_multiple_of(TABLE).min(rest.end);
        let taken = rest.start..end;
        rest.start = end;
        (!taken.is_empty()).then_some(taken)
    };
    while let Some(stretch) = take(STRETCH) {
        if look_at_stretch(tracker, stretch, &mut regions)? {
            patience = STRETCH;
        } else if let Some(stretch) = take(patience) {
            patience = patience.saturating_mul(2);
            regions.extend(tracker.scan_part(stretch, tracker.remarkable(Kind::Anonymous))?);
        }
    }
    Ok(regions)
}

/// Whether it paid to be quick.
fn look_at_stretch(tracker: &Tracker, stretch: Range<u64>, regions: &mut Vec<PageRegion>) -> SysResult<bool> {
    use category::WRITTEN;
    let written = Query { flags: CHECK_WPASYNC, all: WRITTEN, report: WRITTEN, ..Query::default() };
    let told = tracker.scan_part(stretch.clone(), written)?;
    let mut doubtful: Vec<Range<u64>> = told.iter().map(|region| region.start..region.end).collect();
    if !prepare() {
        doubtful.extend(missing_tables(tracker.pid(), &stretch, &doubtful));
        doubtful.sort_unstable_by_key(|range| range.start);
    }
    let again = spans(&doubtful);
    let bytes: u64 = again.iter().map(|span| span.end - span.start).sum();
    for span in again {
        regions.extend(tracker.scan_part(span, tracker.remarkable(Kind::Anonymous))?);
    }
    Ok(bytes <= (stretch.end - stretch.start) / 2)
}

/// As [`quiet_tables`], but for those that are known to be there.
fn missing_tables(pid: i32, whole: &Range<u64>, told: &[Range<u64>]) -> Vec<Range<u64>> {
    let quiet = quiet_tables(whole, told);
    let first: Vec<u64> = quiet.iter().map(|table| table.start).collect();
    // An error: this kernel does not tell that either, or not us.
    let there = numa::in_memory(pid, &first).unwrap_or_else(|_| vec![false; first.len()]);
    quiet.into_iter().zip(there).filter(|(_, there)| !there).map(|(table, _)| table).collect()
}

/// The stretches of `whole` that have page tables of their own, of which `told`, which rises, has nothing.
fn quiet_tables(whole: &Range<u64>, told: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut quiet = Vec::new();
    let mut told = told.iter().peekable();
    let mut start = whole.start;
    while start < whole.end {
        let end = (start + 1).next_multiple_of(TABLE).min(whole.end);
        while told.next_if(|range| range.end <= start).is_some() {}
        if told.peek().is_none_or(|range| range.start >= end) {
            quiet.push(start..end);
        }
        start = end;
    }
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // lists of ranges
    fn tables_of_which_nothing_is_told() {
        let told = [0x20_1000..0x20_2000, 0x5f_f000..0x80_1000];
        let quiet = quiet_tables(&(0x1f_f000..0xa0_1000), &told);
        assert_eq!(quiet, [0x1f_f000..0x20_0000, 0xa0_0000..0xa0_1000]);
        assert_eq!(quiet_tables(&(0x1000..0x3000), &[]), [0x1000..0x3000]);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // lists of ranges
    fn tables_that_are_not_there() {
        let size = usize::try_from(4 * TABLE).unwrap();
        let mut area = memmap2::MmapMut::map_anon(size).unwrap();
        area.advise(memmap2::Advice::NoHugePage).unwrap();
        let first = u64::try_from(area.as_ptr().addr()).unwrap();
        let start = first.next_multiple_of(TABLE);
        let at = |table: u64| usize::try_from(start + table * TABLE - first).unwrap();
        area[at(0)] = 1;
        area[at(2)] = 1;
        let pid = std::process::id().cast_signed();
        let whole = start..start + 3 * TABLE;
        let missing = missing_tables(pid, &whole, &[]);
        // Without NUMA the kernel cannot be asked.
        let unknown = numa::in_memory(pid, &[start]).is_err();
        let expected =
            if unknown { quiet_tables(&whole, &[]) } else { vec![start + TABLE..start + 2 * TABLE] };
        assert_eq!(missing, expected);
    }
}
