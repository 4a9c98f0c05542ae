//! One error type for all calls: what was called, on what, and why it failed.
use nix::errno::Errno;
use std::io;

/// A kernel interface that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} on {object}: {source}")]
pub struct SysError {
    /// The interface: `ptrace(PTRACE_SEIZE)`, `open`, …
    pub call: &'static str,
    /// What it was called on: `pid 4711`, a path, an address.
    pub object: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// Result of a kernel interface.
pub type SysResult<T> = Result<T, SysError>;

impl SysError {
    /// The failure of `call` on `object`.
    pub fn new(call: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { call, object: object.into(), source: source.into() }
    }

    /// The failure of `call` on `object` that `errno` holds now.
    pub fn last(call: &'static str, object: impl Into<String>) -> Self {
        Self::new(call, object, io::Error::last_os_error())
    }

    /// The kernel's error number, if it was one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw)
    }

    /// The target is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::ESRCH | Errno::ENOENT))
    }
}
