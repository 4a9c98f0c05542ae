//! Why a restore did not happen.
use ckpt_sys::SysError;
use ckpt_sys::inject::InjectError;

/// A restore that failed. Nothing of the job runs.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The pid is in use.
    #[error("pid {pid} is taken by {holder}: {remedy}")]
    PidTaken {
        /// Pid.
        pid: i32,
        /// Who has it.
        holder: String,
        /// What to do.
        remedy: String,
    },
    /// A file that the job needs is not there or is not what it was.
    #[error("{path}: {reason}. {remedy}")]
    File {
        /// Path.
        path: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Files are not what they were.
    #[error("files are not what they were at the checkpoint: {list}. {remedy}")]
    ChangedFiles {
        /// Each with what is different.
        list: String,
        /// What to do.
        remedy: String,
    },
    /// This machine cannot take the image.
    #[error("this machine cannot take the checkpoint: {reason}. {remedy}")]
    Machine {
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The image holds something that makes no sense.
    #[error("the image is inconsistent: {what}")]
    Inconsistent {
        /// What.
        what: String,
    },
    /// A remote system call failed.
    #[error("{call} for {object} in the restored process {pid}: {errno}")]
    Remote {
        /// Process.
        pid: i32,
        /// Call.
        call: &'static str,
        /// What it was for: a path, an fd, an address.
        object: String,
        /// Its answer.
        errno: nix::errno::Errno,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] ckpt_image::StoreError),
    /// The kernel.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A remote system call could not be run.
    #[error(transparent)]
    Inject(#[from] InjectError),
}

/// Result of a step of a restore.
pub type RestoreResult<T> = Result<T, RestoreError>;
