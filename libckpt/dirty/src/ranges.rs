//! Lists of address ranges that rise and do not overlap.
use std::ops::Range;

/// Appends `range`, joined to the last one when they touch.
pub fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

/// The parts of `ranges`, which rise, that are within `whole`.
#[must_use]
pub fn within(ranges: &[Range<u64>], whole: &Range<u64>) -> Vec<Range<u64>> {
    let first = ranges.partition_point(|range| range.end <= whole.start);
    let parts = ranges[first..].iter().take_while(|range| range.start < whole.end);
    parts.map(|range| range.start.max(whole.start)..range.end.min(whole.end)).collect()
}

/// What of `whole` is in none of `parts`, which rise.
#[must_use]
pub fn gaps(whole: &Range<u64>, parts: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut next = whole.start;
    for part in parts {
        if next < part.start {
            gaps.push(next..part.start);
        }
        next = part.end;
    }
    if next < whole.end {
        gaps.push(next..whole.end);
    }
    gaps
}

/// What is in both; both rise.
#[must_use]
pub fn intersection(left: &[Range<u64>], right: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut both = Vec::new();
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let common = a.start.max(b.start)..a.end.min(b.end);
        let first_ends = a.end < b.end;
        if !common.is_empty() {
            both.push(common);
        }
        if first_ends {
            left.next()
        } else {
            right.next()
        };
    }
    both
}

/// The same pages in ranges that rise and do not touch.
#[must_use]
pub fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, as everywhere here
mod tests {
    use super::*;

    #[test]
    fn ranges_complement_and_intersect() {
        let parts = [0x2000..0x3000, 0x5000..0x6000];
        assert_eq!(gaps(&(0x1000..0x8000), &parts), [0x1000..0x2000, 0x3000..0x5000, 0x6000..0x8000]);
        assert!(gaps(&(0x2000..0x3000), &parts[..1]).is_empty());
        assert_eq!(within(&parts, &(0x2800..0x5800)), [0x2800..0x3000, 0x5000..0x5800]);
        assert_eq!(
            intersection(&parts, &[0x1000..0x2800, 0x2900..0x5800]),
            [0x2000..0x2800, 0x2900..0x3000, 0x5000..0x5800]
        );
        assert_eq!(
            merged(vec![0x5000..0x7000, 0x1000..0x3000, 0x2000..0x4000, 0x6000..0x7000]),
            [0x1000..0x4000, 0x5000..0x7000]
        );
    }
}
