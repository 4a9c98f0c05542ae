//! Copies of pages, made while the job is frozen: few page faults of our own, and big reads.
use crate::error::CaptureResult;
use ckpt_image::page::PAGE_SIZE;
use ckpt_sys::lent_memory::LentMemory;
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::{RemoteAddr, SysError};
use memmap2::{Advice, MmapMut};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::io::IoSliceMut;
use std::ops::Range;
use std::rc::Rc;

/// Bytes of one buffer: the kernel backs it by huge pages where it can.
const BUFFER: u64 = 32 << 20;
/// Address ranges of one read.
const RANGES: usize = 512;
/// From this size on, two threads copy.
const PARALLEL: u64 = 8 << 20;

/// Bytes of a buffer that is made before the pause.
const SPARE: u64 = 1 << 20;
/// Bytes of all of them, at most.
const SPARES_MAX: u64 = 64 << 20;

/// Buffers made before the pause, all of whose pages are there.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    made: Vec<MmapMut>,
    /// Where more come from, as long as it lasts.
    lent: Option<Rc<LentMemory>>,
}

impl Spares {
    /// None yet. More come from what is `lent`, while the job runs.
    pub(crate) fn of(lent: Option<&Rc<LentMemory>>) -> Self {
        Self { made: Vec::new(), lent: lent.cloned() }
    }

    /// Makes buffers for some `bytes`. Fewer than asked for are as good: more are made in the pause.
    pub(crate) fn prepare(bytes: u64, lent: Option<&Rc<LentMemory>>) -> Self {
        let len = usize::try_from(SPARE).unwrap_or(0);
        let make = || {
            if let Some(buffer) = lent.and_then(|lent| lent.piece(len)) {
                return Some(buffer);
            }
            let buffer = MmapMut::map_anon(len).ok()?;
            buffer.advise(Advice::PopulateWrite).ok()?;
            Some(buffer)
        };
        let count = bytes.min(SPARES_MAX).div_ceil(SPARE);
        Self { made: (0..count).map_while(|_| make()).collect(), lent: None }
    }

    /// A buffer of `len` bytes.
    fn make(&self, len: usize) -> CaptureResult<MmapMut> {
        if let Some(buffer) = self.lent.as_ref().and_then(|lent| lent.piece(len)) {
            return Ok(buffer);
        }
        let buffer = MmapMut::map_anon(len).map_err(|error| SysError::new("mmap", "a buffer", error))?;
        // Without huge pages it is only slower.
        let _ = buffer.advise(Advice::HugePage);
        // No child of ours needs it, and to make one takes longer the more it gets.
        let _ = buffer.advise(Advice::DontFork);
        Ok(buffer)
    }
}

/// Copies of pages.
#[derive(Debug, Default)]
pub(crate) struct PageCopies {
    buffers: Vec<(Vec<Range<u64>>, MmapMut)>,
}

impl PageCopies {
    /// Copies `ranges` (whole pages, rising) of the memory of `pid`. `alone`: it shares none of them with other processes of the job, copy-on-write.
    pub(crate) fn copy(
        pid: i32,
        memory: &ProcessMemory,
        ranges: &[Range<u64>],
        spares: &mut Spares,
        alone: bool,
    ) -> CaptureResult<Self> {
        let mut buffers = Vec::new();
        let enough = total(ranges) <= SPARE * u64::try_from(spares.made.len()).unwrap_or(0);
        for pieces in fit(ranges, if enough { SPARE } else { BUFFER }) {
            if let Some(spare) = if enough { spares.made.pop() } else { None } {
                buffers.push((pieces, spare));
                continue;
            }
            let buffer = spares.make(bytes(&pieces))?;
            buffers.push((pieces, buffer));
        }
        if total(ranges) < PARALLEL {
            buffers.iter_mut().try_for_each(|(pieces, buffer)| fill(pid, memory, pieces, buffer, alone))?;
            return Ok(Self { buffers });
        }
        let mut work: Vec<(&[Range<u64>], &mut [u8])> = Vec::new();
        let mut halves: Vec<(Vec<Range<u64>>, &mut [u8])> = Vec::new();
        for (pieces, buffer) in &mut buffers {
            let mut rest: &mut [u8] = buffer;
            for half in fit(pieces, BUFFER / 2) {
                let (front, back) = rest.split_at_mut(bytes(&half));
                halves.push((half, front));
                rest = back;
            }
        }
        work.extend(halves.iter_mut().map(|(pieces, buffer)| (&pieces[..], &mut **buffer)));
        let mut others = work.split_off(work.len() / 2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                others.iter_mut().try_for_each(|(pieces, buffer)| fill(pid, memory, pieces, buffer, alone))
            });
            let own =
                work.iter_mut().try_for_each(|(pieces, buffer)| fill(pid, memory, pieces, buffer, alone));
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            own.and(other)
        })?;
        Ok(Self { buffers })
    }

    /// Adds copies of other pages.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.buffers.append(&mut other.buffers);
    }

    /// Where they were copied from.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.buffers.iter().flat_map(|(pieces, _)| pieces.iter().cloned())
    }

    /// The copies, runs of pages with the address of the first.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.buffers.iter().flat_map(|(pieces, buffer)| {
            let mut at = 0;
            pieces.iter().map(move |piece| {
                let end = at + bytes(std::slice::from_ref(piece));
                let run = &buffer[at..end];
                at = end;
                (piece.start, run)
            })
        })
    }
}

/// Bytes of all of them.
pub(crate) fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

fn bytes(pieces: &[Range<u64>]) -> usize {
    usize::try_from(total(pieces)).unwrap_or(usize::MAX)
}

/// Cuts `ranges` into groups of at most `size` bytes each, a multiple of the page size.
pub(crate) fn fit(ranges: &[Range<u64>], size: u64) -> Vec<Vec<Range<u64>>> {
    let mut groups: Vec<Vec<Range<u64>>> = Vec::new();
    let mut room = 0;
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            if room == 0 {
                groups.push(Vec::new());
                room = size;
            }
            let end = range.end.min(start + room);
            if let Some(group) = groups.last_mut() {
                group.push(start..end);
            }
            room -= end - start;
            start = end;
        }
    }
    groups
}

/// Fills `buffer` with the memory at `pieces`, one after the other.
fn fill(
    pid: i32,
    memory: &ProcessMemory,
    pieces: &[Range<u64>],
    mut buffer: &mut [u8],
    alone: bool,
) -> CaptureResult<()> {
    for batch in pieces.chunks(RANGES) {
        // A spare buffer may be longer than what goes into it.
        let (front, rest) = std::mem::take(&mut buffer).split_at_mut(bytes(batch));
        buffer = rest;
        let remote: Vec<RemoteIoVec> = batch
            .iter()
            .map(|piece| RemoteIoVec {
                base: usize::try_from(piece.start).unwrap_or(0),
                len: bytes(std::slice::from_ref(piece)),
            })
            .collect();
        let wanted = front.len();
        // The fast way; it stops at pages that the process itself may not read. It pins pages, for which the kernel gives the process a copy of its own of
        // each that it shares.
        let fast = |front: &mut [u8]| {
            process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(front)], &remote).unwrap_or(0)
        };
        let got = if alone { fast(front) } else { 0 };
        if got == wanted {
            continue;
        }
        let mut skip = got - got % PAGE_SIZE;
        let mut at = 0;
        for piece in batch {
            let len = bytes(std::slice::from_ref(piece));
            let done = skip.min(len);
            skip -= done;
            if done < len {
                let start = piece.start + u64::try_from(done).unwrap_or(0);
                memory.read(RemoteAddr::new(start), &mut front[at + done..at + len])?;
            }
            at += len;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, as everywhere here
mod tests {
    use super::*;

    #[test]
    fn groups_have_all_bytes_in_order() {
        let ranges = [0x1000..0x3000, 0x8000..0x9000, 0x20000..0x26000];
        let groups = fit(&ranges, 0x4000);
        assert_eq!(
            groups,
            [
                vec![0x1000..0x3000, 0x8000..0x9000, 0x20000..0x21000],
                vec![0x21000..0x25000],
                vec![0x25000..0x26000]
            ]
        );
    }

    #[test]
    fn own_memory_is_copied_also_where_it_cannot_be_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let memory = ProcessMemory::open(pid).unwrap();
        let pages = 16 << 20 >> 12;
        let mut map = MmapMut::map_anon(pages * PAGE_SIZE).unwrap();
        for page in 0..pages {
            map[page * PAGE_SIZE..][..8].copy_from_slice(&page.to_ne_bytes());
        }
        let start = u64::try_from(map.as_ptr().expose_provenance()).unwrap();
        let hidden = start + 40 * 4096;
        let protect = |prot| {
            let at = std::ptr::with_exposed_provenance_mut(usize::try_from(hidden).unwrap());
            // SAFETY: pages of our own map, which nobody touches while they are hidden.
            assert_eq!(unsafe { libc::mprotect(at, 4096 * 2, prot) }, 0);
        };
        protect(libc::PROT_NONE);
        let every_other: Vec<_> =
            (0..60).map(|page| start + page * 8192..start + page * 8192 + 4096).collect();
        let all = [start..start + u64::try_from(map.len()).unwrap()];
        for (ranges, spare) in [(&all[..], 0), (&every_other, 0), (&every_other, SPARE), (&all, 40 * SPARE)] {
            let copies =
                PageCopies::copy(pid, &memory, ranges, &mut Spares::prepare(spare, None), spare == 0)
                    .unwrap();
            let mut count = 0;
            for (address, run) in copies.runs() {
                for (index, page) in run.chunks(PAGE_SIZE).enumerate() {
                    let number = usize::try_from((address - start) / 4096).unwrap() + index;
                    assert_eq!(page[..8], number.to_ne_bytes());
                    count += 1;
                }
            }
            assert_eq!(count, if ranges.len() == 1 { pages } else { 60 });
        }
        protect(libc::PROT_READ);
    }
}
