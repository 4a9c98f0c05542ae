//! Rings at their addresses. The kernel takes no wish as to where a ring is mapped, nor does it move one: so the place is made the only one that is free.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::vma::describe;
use ckpt_image::record::VmaV1;
use ckpt_sys::proc::maps;
use std::ops::Range;

/// Addresses that the kernel chooses from: without those below the usual vm.mmap_min_addr, end of user space with four-level page tables.
const ALL: Range<u64> = 0x1_0000..0x7fff_ffff_f000;

/// Maps parts of the instance with descriptor `number`: each mapping with the offset that it is from.
pub(super) fn map(builder: &mut Builder<'_>, parts: &[(&VmaV1, u64)], number: u64) -> RestoreResult<()> {
    let mappings = maps::maps(builder.remote.pid())?;
    let mut wanted: Vec<Range<u64>> = parts.iter().map(|(vma, _)| vma.start..vma.end).collect();
    wanted.sort_unstable_by_key(|range| range.start);
    let taken: Vec<Range<u64>> = mappings.iter().map(maps::Mapping::range).collect();
    if let Some(place) = wanted.iter().find(|place| taken.iter().any(|other| overlap(place, other))) {
        let what = format!("{:#x}-{:#x} has two mappings", place.start, place.end);
        return Err(RestoreError::Inconsistent { what });
    }
    let mut used: Vec<Range<u64>> = taken.into_iter().chain(wanted.iter().cloned()).collect();
    used.sort_unstable_by_key(|range| range.start);
    let others = gaps(&used);
    for range in others.iter().chain(&wanted) {
        reserve(builder, range)?;
    }
    for (vma, offset) in parts {
        let len = vma.end - vma.start;
        unmap(builder, &(vma.start..vma.end))?;
        let flags = u64::from(libc::MAP_SHARED.unsigned_abs());
        let args = [0, len, u64::from(vma.prot), flags, number, *offset];
        let at = builder.call("mmap", &describe(vma), libc::SYS_mmap, &args)?;
        if at != vma.start {
            let what = format!("{} of an io_uring instance landed at {at:#x}", describe(vma));
            return Err(RestoreError::Inconsistent { what });
        }
    }
    others.iter().try_for_each(|range| unmap(builder, range))
}

fn overlap(left: &Range<u64>, right: &Range<u64>) -> bool {
    left.start < right.end && right.start < left.end
}

/// What of [`ALL`] is in none of `used`, which rise.
fn gaps(used: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut next = ALL.start;
    for range in used.iter().chain([&(ALL.end..ALL.end)]) {
        if next < range.start.min(ALL.end) {
            gaps.push(next..range.start.min(ALL.end));
        }
        next = next.max(range.end);
    }
    gaps
}

fn reserve(builder: &mut Builder<'_>, range: &Range<u64>) -> RestoreResult<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let args = [range.start, range.end - range.start, 0, u64::from(flags.unsigned_abs()), u64::MAX, 0];
    let object = format!("{:#x}-{:#x}, reserved for the time", range.start, range.end);
    builder.call("mmap", &object, libc::SYS_mmap, &args).map(drop)
}

fn unmap(builder: &mut Builder<'_>, range: &Range<u64>) -> RestoreResult<()> {
    let object = format!("{:#x}-{:#x}, reserved for the time", range.start, range.end);
    builder.call("munmap", &object, libc::SYS_munmap, &[range.start, range.end - range.start]).map(drop)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges
mod tests {
    use super::*;

    #[test]
    fn all_that_is_free() {
        let used = [0x1000..0x2000, 0x2_0000..0x3_0000, 0x3_0000..0x4_0000, 0xffff_ffff_ff60_0000..u64::MAX];
        assert_eq!(gaps(&used), [0x1_0000..0x2_0000, 0x4_0000..ALL.end]);
        assert_eq!(gaps(&[0..ALL.end]), []);
    }
}
