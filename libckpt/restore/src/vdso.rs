//! The kernel's own mappings, [vvar] and [vdso]: they cannot be made, only moved to where the program knows them to be.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::record::{BackingV1, MmV1};
use ckpt_sys::RemoteAddr;
use ckpt_sys::proc::maps;
use std::ops::Range;

/// A mapping of the kernel's: whether it is [vdso], and where.
type Special = (bool, Range<u64>);

/// The kernel's mappings that the process has now.
pub(crate) fn current(pid: i32) -> RestoreResult<Vec<Special>> {
    let special = |mapping: &maps::Mapping| match &mapping.path[..] {
        b"[vdso]" => Some((true, mapping.range())),
        b"[vvar]" | b"[vvar_vclock]" => Some((false, mapping.range())),
        _ => None,
    };
    Ok(maps::maps(pid)?.iter().filter_map(special).collect())
}

fn wanted(mm: &MmV1) -> Vec<Special> {
    let special = |vma: &ckpt_image::record::VmaV1| match vma.backing {
        BackingV1::Vdso => Some((true, vma.start..vma.end)),
        BackingV1::Vvar => Some((false, vma.start..vma.end)),
        _ => None,
    };
    mm.vmas.iter().filter_map(special).collect()
}

/// Whether the kernel's mappings are where the image has them.
pub(crate) fn is_in_place(builder: &Builder<'_>, mm: &MmV1) -> RestoreResult<bool> {
    Ok(current(builder.remote.pid())? == wanted(mm))
}

/// Moves the kernel's mappings from where they are to where the image has them. If they move, nothing else is mapped but the scratch area.
pub(crate) fn move_to_image(builder: &mut Builder<'_>, image: &Image, mm: &MmV1) -> RestoreResult<()> {
    let pid = builder.remote.pid();
    let (current, wanted) = (current(pid)?, wanted(mm));
    if wanted.is_empty() {
        // The program has unmapped them.
        for (_, range) in current {
            let args = [range.start, range.end - range.start];
            builder.call("munmap", &"the vDSO", libc::SYS_munmap, &args)?;
        }
        return Ok(());
    }
    check(builder, image, &current, &wanted)?;
    // In reverse when they move up: then no mapping is moved onto one that is still to move, if the group keeps its shape.
    let mut moves: Vec<(Range<u64>, u64)> = current
        .iter()
        .zip(&wanted)
        .filter(|(from, to)| from != to)
        .map(|(from, to)| (from.1.clone(), to.1.start))
        .collect();
    if moves.first().is_some_and(|(from, to)| from.start < *to) {
        moves.reverse();
    }
    let same_shape = moves
        .windows(2)
        .all(|pair| pair[0].0.start.wrapping_sub(pair[0].1) == pair[1].0.start.wrapping_sub(pair[1].1));
    let overlap = moves.iter().any(|(from, to)| from.start < to + (from.end - from.start) && *to < from.end);
    if overlap || !same_shape {
        let away = free_place(builder, &current, &wanted)?;
        let base = current.first().map_or(0, |first| first.1.start);
        for (from, _) in &mut moves {
            let temporary = away + (from.start - base);
            relocate(builder, from, temporary)?;
            *from = temporary..temporary + (from.end - from.start);
        }
    }
    for (from, to) in moves {
        relocate(builder, &from, to)?;
    }
    Ok(())
}

fn relocate(builder: &mut Builder<'_>, from: &Range<u64>, to: u64) -> RestoreResult<()> {
    let size = from.end - from.start;
    let flags = u64::from((libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED).unsigned_abs());
    let args = [from.start, size, size, flags, to];
    builder.call("mremap", &format!("the vDSO at {:#x}", from.start), libc::SYS_mremap, &args)?;
    Ok(())
}

/// A place for the whole group away from where it is, where it goes, and the scratch area.
fn free_place(builder: &Builder<'_>, current: &[Special], wanted: &[Special]) -> RestoreResult<u64> {
    let extent = |list: &[Special]| {
        let start = list.iter().map(|special| special.1.start).min().unwrap_or(0);
        let end = list.iter().map(|special| special.1.end).max().unwrap_or(0);
        start..end
    };
    let mut taken = vec![extent(current), extent(wanted)];
    taken.push(builder.remote.scratch().range());
    let size = taken[0].end - taken[0].start;
    let free = |at: u64| taken.iter().all(|range| at + size <= range.start || range.end <= at);
    (0..64)
        .map(|step| (1 << 30) + step * size.next_power_of_two())
        .find(|at| free(*at))
        .ok_or_else(|| RestoreError::Inconsistent { what: "there is no room to move the vDSO".into() })
}

/// Whether the kernel's mappings are those that the program was linked with at its start.
fn check(builder: &Builder<'_>, image: &Image, current: &[Special], wanted: &[Special]) -> RestoreResult<()> {
    let inventory = image.inventory()?;
    let shape = |list: &[Special]| {
        list.iter().map(|(code, range)| (*code, range.end - range.start)).collect::<Vec<_>>()
    };
    let mut same = shape(current) == shape(wanted);
    for (_, range) in current.iter().filter(|(code, _)| *code) {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
        builder.remote.memory().read(RemoteAddr::new(range.start), &mut bytes)?;
        same &= inventory.vdso_hash == *blake3::hash(&bytes).as_bytes();
    }
    if same {
        return Ok(());
    }
    Err(RestoreError::Machine {
        reason: format!(
            "the code that the kernel maps into programs (vDSO) is not that of {}, which the program ran on",
            inventory.kernel_release
        ),
        remedy: format!("Restore on a machine that runs Linux {}", inventory.kernel_release),
    })
}
