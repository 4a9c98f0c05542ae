//! Huge pages of hugetlbfs (Documentation/admin-guide/mm/hugetlbpage.rst): their sizes, how many are free, and files made of them.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

/// MAP_HUGE_SHIFT, MFD_HUGE_SHIFT, SHM_HUGE_SHIFT.
const SIZE_SHIFT: u32 = 26;

/// Bytes of the pages that a file of hugetlbfs is made of; 0: it is of another file system.
pub fn page_size(file: &File) -> SysResult<u64> {
    let system = fstatfs(file).map_err(|errno| SysError::new("fstatfs", "a file", errno))?;
    let is_huge = system.filesystem_type() == HUGETLBFS_MAGIC;
    Ok(if is_huge { u64::try_from(system.block_size()).unwrap_or(0) } else { 0 })
}

/// The size of a page as flags of mmap(2), memfd_create(2) and shmget(2) have it; 0 for ordinary pages.
#[must_use]
pub fn size_flags(page_size: u64) -> u32 {
    if page_size == 0 { 0 } else { page_size.trailing_zeros() << SIZE_SHIFT }
}

/// How many huge pages of a size a program could get now; None: this machine has none of that size.
#[must_use]
pub fn available(page_size: u64) -> Option<u64> {
    let directory = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page_size >> 10);
    let count = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("{directory}/{name}")).ok()?.trim().parse().ok()
    };
    let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages")?);
    let more = count("nr_overcommit_hugepages")?.saturating_sub(count("surplus_hugepages")?);
    Some(free.saturating_add(more))
}

/// A file that is memory: of a tmpfs, or of hugetlbfs, which has no write(2).
#[derive(Debug)]
pub struct MemoryFile<'f> {
    file: &'f File,
    page_size: u64,
}

impl<'f> MemoryFile<'f> {
    /// A file that can be read and written.
    pub fn new(file: &'f File) -> SysResult<Self> {
        Ok(Self { file, page_size: page_size(file)? })
    }
}

impl FileExt for MemoryFile<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if self.page_size == 0 {
            return self.file.write_at(bytes, offset);
        }
        let too_far = || io::Error::from(Errno::EFBIG);
        let start = offset - offset % self.page_size;
        let before = usize::try_from(offset - start).map_err(|_| too_far())?;
        let page = usize::try_from(self.page_size).map_err(|_| too_far())?;
        let Some(len) = NonZeroUsize::new((before + bytes.len()).next_multiple_of(page)) else {
            return Ok(0);
        };
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let from = i64::try_from(start).map_err(|_| too_far())?;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping, at a place of the kernel's choice.
        let map = unsafe { mmap(None, len, prot, flags, self.file, from) }?;
        // Without a page to be had, a write to it would end this process.
        // SAFETY: the mapping was made just now; its pages are made, nothing else changes.
        let outcome = unsafe { madvise(map, len.get(), MmapAdvise::MADV_POPULATE_WRITE) };
        if outcome.is_ok() {
            // SAFETY: the mapping is ours alone, writable and populated, and long enough.
            unsafe {
                let to = map.cast::<u8>().as_ptr().add(before);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        }
        // SAFETY: it was made here, and nobody else knows of it.
        unsafe { munmap(map, len.get()) }?;
        outcome?;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_flags() {
        assert_eq!(size_flags(0), 0);
        assert_eq!(size_flags(2 << 20), 21 << 26);
        assert_eq!(size_flags(1 << 30), 30 << 26);
    }

    #[test]
    fn an_ordinary_file_has_ordinary_pages() {
        assert_eq!(page_size(&File::open("/proc/self/exe").unwrap()).unwrap(), 0);
    }
}
