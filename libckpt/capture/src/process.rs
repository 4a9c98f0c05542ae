//! A process under capture, as the files of this crate see it.
use ckpt_sys::memory::ProcessMemory;
use std::os::fd::OwnedFd;

/// A process whose threads are all seized and stopped.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its pid.
    pub(crate) pid: i32,
    /// Stands for it.
    pub(crate) pidfd: OwnedFd,
    /// Its memory.
    pub(crate) memory: ProcessMemory,
}
