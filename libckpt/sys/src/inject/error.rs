//! Why a remote system call could not be run.
use crate::error::SysError;
use crate::inject::scratch::DATA_SIZE;
use crate::ptrace::Stop;
use nix::errno::Errno;

/// An injection that did not happen: the target is gone, or ptrace refused. The outcome of the remote call itself is not in here.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The thread ended.
    #[error("thread {tid} ended while a system call ran in it")]
    Gone {
        /// Thread.
        tid: i32,
    },
    /// The kernel refused.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The target has no system call instruction that could be found.
    #[error("pid {pid} has no instruction to make a system call with")]
    NoEntry {
        /// Process.
        pid: i32,
    },
    /// The address space is full where scratch areas go.
    #[error("the address space of pid {pid} has no free place for a scratch area")]
    NoPlace {
        /// Process.
        pid: i32,
    },
    /// The target could not map the scratch area.
    #[error("pid {pid} cannot map {bytes} bytes of scratch memory: {errno}")]
    Scratch {
        /// Process.
        pid: i32,
        /// How much.
        bytes: u64,
        /// Why.
        errno: Errno,
    },
    /// The data of a call does not fit the scratch area.
    #[error("{bytes} bytes do not fit the scratch area of {DATA_SIZE} bytes")]
    TooLarge {
        /// How much.
        bytes: usize,
    },
    /// The thread stopped in a way that nothing here causes.
    #[error("thread {tid} stopped unexpectedly in a remote system call: {stop:?}")]
    Unexpected {
        /// Thread.
        tid: i32,
        /// How.
        stop: Stop,
    },
}

/// Result of an injection.
pub type InjectResult<T> = Result<T, InjectError>;
