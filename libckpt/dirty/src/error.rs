//! Why dirty tracking failed.
use ckpt_sys::SysError;
use ckpt_sys::inject::InjectError;

/// A failure of dirty tracking. A mapping that cannot be tracked is none: its pages count as dirty.
#[derive(Debug, thiserror::Error)]
pub enum DirtyError {
    /// The kernel.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A remote system call could not be run.
    #[error(transparent)]
    Inject(#[from] InjectError),
}

/// Result of dirty tracking.
pub type DirtyResult<T> = Result<T, DirtyError>;
