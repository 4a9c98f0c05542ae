//! PAGEMAP_SCAN (Documentation/admin-guide/mm/pagemap.rst, kernel 6.7): which pages exist and which were written, and
//! write-protection of what was found, in one call.
use crate::error::{SysError, SysResult};
use crate::uffd;
use memmap2::MmapMut;
use nix::errno::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

/// Categories of pages.
#[allow(missing_docs)]
pub mod category {
    pub const WPALLOWED: u64 = 1 << 0;
    pub const WRITTEN: u64 = 1 << 1;
    pub const FILE: u64 = 1 << 2;
    pub const PRESENT: u64 = 1 << 3;
    pub const SWAPPED: u64 = 1 << 4;
    pub const PFNZERO: u64 = 1 << 5;
    pub const HUGE: u64 = 1 << 6;
    pub const SOFT_DIRTY: u64 = 1 << 7;
    pub const GUARD: u64 = 1 << 8;
}

/// Write-protect the pages that match.
pub const WP_MATCHING: u64 = 1 << 0;
/// Fail with EPERM where memory is not registered for asynchronous write-protection.
pub const CHECK_WPASYNC: u64 = 1 << 1;

/// A run of pages with the same categories.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageRegion {
    /// First byte.
    pub start: u64,
    /// First byte after.
    pub end: u64,
    /// `category` bits, of those asked for.
    pub categories: u64,
}

#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// What to look for: a page matches when, after flipping `inverted`, all of `all` and (if not 0) one of `any` are set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query {
    /// WP_MATCHING, CHECK_WPASYNC.
    pub flags: u64,
    /// Categories that are flipped first.
    pub inverted: u64,
    /// All of these.
    pub all: u64,
    /// One of these.
    pub any: u64,
    /// Categories told in the answer.
    pub report: u64,
}

/// What the page map's file tells of one page that is present (Documentation/admin-guide/mm/pagemap.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Address of the page.
    pub address: u64,
    /// Number of the page frame; 0 without CAP_SYS_ADMIN.
    pub number: u64,
    /// A page of a file or of shared memory.
    pub file: bool,
    /// Nobody else has it mapped.
    pub exclusive: bool,
}

/// What stands in the page table for a page that is not present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Where the page is: in swap space, or on its way.
    Elsewhere,
    /// A mark, and no page: `marker` bits.
    Marker(u64),
    /// It is not shown: that takes CAP_SYS_ADMIN.
    Hidden,
}

/// Bits of a mark in the page table (PTE_MARKER_*).
pub mod marker {
    /// Access is a SIGBUS (UFFDIO_POISON).
    pub const POISONED: u64 = 1 << 1;
}

/// Whether a scan for what was written tells of memory that has no page table, as newer kernels do, and some of the stable ones (since July 2026): it looks at memory of this process.
pub fn tells_of_missing_tables() -> SysResult<bool> {
    const TABLE: u64 = 2 << 20;
    let failed = |error| SysError::new("mmap", "memory to try a scan on", error);
    let area = MmapMut::map_anon(usize::try_from(2 * TABLE).unwrap_or(0)).map_err(failed)?;
    let first = u64::try_from(area.as_ptr().expose_provenance()).unwrap_or(0);
    let start = first.next_multiple_of(TABLE);
    let userfaultfd = uffd::of_this_process()?;
    uffd::enable_wp_async(userfaultfd.as_fd())?;
    uffd::register_wp(userfaultfd.as_fd(), first..first + 2 * TABLE)?;
    let query = Query { all: category::WRITTEN, report: category::WRITTEN, ..Query::default() };
    let mut found = Vec::new();
    Pagemap::open(std::process::id().cast_signed())?.scan(start..start + TABLE, query, &mut found)?;
    Ok(found.iter().any(|region| region.start == start && region.end == start + TABLE))
}

/// A process's page map.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    pid: i32,
}

impl Pagemap {
    /// Opens the page map of `pid`.
    pub fn open(pid: i32) -> SysResult<Self> {
        let path = crate::proc::path(pid, "pagemap");
        let file = File::open(&path).map_err(|error| SysError::new("open", &path, error))?;
        Ok(Self { file, pid })
    }

    /// Appends the runs of pages in `range` that match `query` to `found`.
    ///
    /// # Errors
    /// EPERM with CHECK_WPASYNC: a mapping in the range is not registered. ENOTTY: the kernel has no PAGEMAP_SCAN (before 6.7).
    pub fn scan(&self, range: Range<u64>, query: Query, found: &mut Vec<PageRegion>) -> SysResult<()> {
        const BATCH: u64 = 1024;
        let len = BATCH.min((range.end - range.start).div_ceil(4096));
        let mut batch = vec![PageRegion::default(); usize::try_from(len).unwrap_or(0)];
        let mut start = range.start;
        while start < range.end {
            let mut arg = ScanArg {
                size: u64::try_from(size_of::<ScanArg>()).unwrap_or(0),
                flags: query.flags,
                start,
                end: range.end,
                vec: u64::try_from(batch.as_mut_ptr().expose_provenance()).unwrap_or(0),
                vec_len: len,
                category_inverted: query.inverted,
                category_mask: query.all,
                category_anyof_mask: query.any,
                return_mask: query.report,
                ..ScanArg::default()
            };
            let got = self.ioctl(&mut arg)?;
            for region in &batch[..got] {
                match found.last_mut() {
                    Some(last) if last.end == region.start && last.categories == region.categories => {
                        last.end = region.end;
                    }
                    _ => found.push(*region),
                }
            }
            // The kernel looks in steps, each until a buffer of its own is full. When its last step went to the end, it leaves in `walk_end` where the step before
            // had stopped; to go on from there would look, and protect, twice.
            if got < batch.len() {
                break;
            }
            start = arg.walk_end.max(batch[got - 1].end);
        }
        Ok(())
    }

    /// Gives the pages of `range` that are present to `found`, by rising address.
    pub fn frames(&self, range: Range<u64>, mut found: impl FnMut(Frame)) -> SysResult<()> {
        const PAGE: u64 = 4096;
        const BATCH: u64 = 4096;
        const FRAME: u64 = (1 << 55) - 1;
        let bit = |entry: u64, number: u32| entry >> number & 1 == 1;
        let mut buffer = vec![0; usize::try_from(BATCH * 8).unwrap_or(0)];
        let mut start = range.start;
        while start < range.end {
            let pages = ((range.end - start) / PAGE).min(BATCH);
            let bytes = &mut buffer[..usize::try_from(pages * 8).unwrap_or(0)];
            self.file.read_exact_at(bytes, start / PAGE * 8).map_err(|error| {
                SysError::new("read of pagemap", format!("pid {}, {start:#x}", self.pid), error)
            })?;
            for (address, entry) in (start..range.end).step_by(4096).zip(bytes.as_chunks().0) {
                let entry = u64::from_ne_bytes(*entry);
                if bit(entry, 63) {
                    let (file, exclusive) = (bit(entry, 61), bit(entry, 56));
                    found(Frame { address, number: entry & FRAME, file, exclusive });
                }
            }
            if pages == 0 {
                break;
            }
            start += pages * PAGE;
        }
        Ok(())
    }

    /// What stands for the page at `address`, of which a scan said SWAPPED.
    pub fn absent(&self, address: u64) -> SysResult<Absent> {
        const FRAME: u64 = (1 << 55) - 1;
        const TYPES: u32 = 5;
        // The last type of swap entries.
        const MARKER: u64 = (1 << TYPES) - 1;
        let mut entry = [0; 8];
        self.file.read_exact_at(&mut entry, address / 4096 * 8).map_err(|error| {
            SysError::new("read of pagemap", format!("pid {}, {address:#x}", self.pid), error)
        })?;
        let frame = u64::from_ne_bytes(entry) & FRAME;
        Ok(match frame & MARKER {
            _ if frame == 0 => Absent::Hidden,
            MARKER => Absent::Marker(frame >> TYPES),
            _ => Absent::Elsewhere,
        })
    }

    /// As [`Self::frames`], without looking at what is not populated.
    pub fn populated_frames(&self, range: Range<u64>, mut found: impl FnMut(Frame)) -> SysResult<()> {
        let mut regions = Vec::new();
        let query = Query { any: category::PRESENT, report: category::PRESENT, ..Query::default() };
        self.scan(range, query, &mut regions)?;
        regions.iter().try_for_each(|region| self.frames(region.start..region.end, &mut found))
    }

    fn ioctl(&self, arg: &mut ScanArg) -> SysResult<usize> {
        const PAGEMAP_SCAN: u64 = 0xc060_6610;
        loop {
            // SAFETY: `arg` is laid out as the kernel's `struct pm_scan_arg`, with its size, and its vector is valid for `vec_len` regions.
            let got = unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, std::ptr::from_mut(arg)) };
            if got >= 0 {
                return Ok(usize::try_from(got).unwrap_or(0));
            }
            if Errno::last() != Errno::EINTR {
                let object = format!("pid {}, {:#x}-{:#x}", self.pid, arg.start, arg.end);
                return Err(SysError::last("ioctl(PAGEMAP_SCAN)", object));
            }
        }
    }
}

const _: () = assert!(size_of::<ScanArg>() == 96);

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::MmapMut;

    #[test]
    fn no_page_is_told_of_twice() {
        const PAGE: usize = 4096;
        // The kernel's steps are of 512 runs, ours of 1024.
        for runs in [1, 511, 512, 513, 1023, 1024, 1025, 1500, 1536, 2048, 3000] {
            let mut map = MmapMut::map_anon(2 * runs * PAGE).unwrap();
            let start = u64::try_from(map.as_ptr().expose_provenance()).unwrap();
            (0..runs).for_each(|run| map[2 * run * PAGE] = 1);
            let pagemap = Pagemap::open(i32::try_from(std::process::id()).unwrap()).unwrap();
            let query = Query {
                any: category::PRESENT,
                report: category::PRESENT | category::FILE,
                ..Query::default()
            };
            let mut found = Vec::new();
            let end = start + u64::try_from(map.len()).unwrap();
            pagemap.scan(start..end, query, &mut found).unwrap();
            let starts: Vec<u64> = found.iter().map(|region| region.start).collect();
            let wanted: Vec<u64> = (start..end).step_by(2 * PAGE).collect();
            assert_eq!(starts, wanted, "{runs} runs");
        }
    }
}
