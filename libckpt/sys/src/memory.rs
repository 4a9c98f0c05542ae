//! Another process's memory, through /proc/PID/mem.
//!
//! Reads and writes go through page protections, as ptrace's do (FOLL_FORCE): a write to a private mapping without PROT_WRITE makes a
//! private copy of the page.
use crate::addr::RemoteAddr;
use crate::error::{SysError, SysResult};
use std::fs::{File, OpenOptions};
use std::io;
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
        let path = format!("/proc/{pid}/mem");
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
