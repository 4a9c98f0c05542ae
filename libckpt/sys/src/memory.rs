//! Another process's memory, through /proc/PID/mem.
//!
//! Reads and writes go through page protections, as ptrace's do (FOLL_FORCE): a write to a private mapping without PROT_WRITE makes a
//! private copy of the page.
use crate::addr::RemoteAddr;
use crate::error::{SysError, SysResult};
use crate::huge_pages;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

/// A process's memory.
#[derive(Debug)]
pub struct ProcessMemory {
    file: File,
    pid: i32,
}

impl ProcessMemory {
    /// Opens the memory of `pid`. The file stays with the address space that the process has now: after an exec it reads as empty.
    pub fn open(pid: i32) -> SysResult<Self> {
        let path = crate::proc::path(pid, "mem");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| SysError::new("open", &path, error))?;
        Ok(Self { file, pid })
    }

    /// Fills `buffer` from `address`.
    pub fn read(&self, address: RemoteAddr, buffer: &mut [u8]) -> SysResult<()> {
        self.file
            .read_exact_at(buffer, address.get())
            .map_err(|error| self.error("read of memory", address, buffer.len(), error))
    }

    /// Reads from `address` as far as there is memory; the number of bytes.
    pub fn read_some(&self, address: RemoteAddr, buffer: &mut [u8]) -> SysResult<usize> {
        self.file
            .read_at(buffer, address.get())
            .map_err(|error| self.error("read of memory", address, buffer.len(), error))
    }

    /// Writes `bytes` to `address`.
    pub fn write(&self, address: RemoteAddr, bytes: &[u8]) -> SysResult<()> {
        self.file
            .write_all_at(bytes, address.get())
            .map_err(|error| self.error("write of memory", address, bytes.len(), error))
    }

    /// Reads a native word at `address`.
    pub fn read_u64(&self, address: RemoteAddr) -> SysResult<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn error(&self, call: &'static str, address: RemoteAddr, len: usize, error: io::Error) -> SysError {
        SysError::new(call, format!("pid {}, {len} bytes at {address}", self.pid), error)
    }
}

/// A description of new shared anonymous memory of `len` bytes, whole pages, huge ones of `page_size` bytes if that is not 0: the same kind of object
/// that mmap(2) makes. EPERM: it takes CAP_CHECKPOINT_RESTORE.
pub fn shared_anonymous(len: u64, page_size: u64) -> SysResult<File> {
    let failed = |errno| SysError::new("mmap", "shared anonymous memory", errno);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let huge = if page_size == 0 { MapFlags::empty() } else { MapFlags::MAP_HUGETLB };
    let huge = huge | MapFlags::from_bits_retain(huge_pages::size_flags(page_size).cast_signed());
    let (prot, flags) = (ProtFlags::PROT_READ, MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE | huge);
    let length = NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN);
    // SAFETY: a new mapping, at a place of the kernel's choice.
    let map = unsafe { mmap_anonymous(None, length, prot, flags) }.map_err(failed)?;
    let start = map.addr().get();
    let path = format!("/proc/self/map_files/{start:x}-{:x}", start + len);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    // SAFETY: it was made just now, and nobody else knows of it.
    unsafe { munmap(map, len) }.map_err(failed)?;
    file.map_err(|error| SysError::new("open", path, error))
}
