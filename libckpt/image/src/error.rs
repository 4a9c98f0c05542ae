//! What can go wrong with a store, said so that the user can act on it.
use crate::CheckpointId;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the store. Its text names the file, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing is there.
    #[error("{}: no such store; `ckpt run` or `ckpt daemon` creates one, or name another with --store", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{}: not a checkpoint store ({reason}); name a store, or an empty or new directory, with --store", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What tells.
        reason: &'static str,
    },
    /// Written by a newer ckpt.
    #[error("{}: format version {found}, this ckpt knows versions up to {known}; use a newer ckpt", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u16,
        /// Newest version that this library reads.
        known: u16,
    },
    /// No permission to write, or a read-only file system.
    #[error("{}: not writable: {source}; change its permissions, or name another store with --store", path.display())]
    NotWritable {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No permission to read.
    #[error("{}: not readable: {source}; change its permissions, or run as the store's owner", path.display())]
    NotReadable {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// ENOSPC or EDQUOT.
    #[error("{}: the disk or the quota is full: {source}; free space, e.g. with `ckpt prune JOB --keep N`, and save again", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// EMFILE or ENFILE: a long chain needs a descriptor for each of its packs.
    #[error("{}: too many open files: {source}; raise `ulimit -n`, or shorten the chain with `ckpt merge`", path.display())]
    TooManyFiles {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file's bytes are not those that were written.
    #[error("{}: corrupt: {reason}; restore the file from a backup, or use another checkpoint (`ckpt verify` lists every bad file)", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An intact file that belongs elsewhere.
    #[error("{}: swapped: the file says that it is {found}, {expected} belongs here; put the right file back, or use another checkpoint", path.display())]
    Swapped {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A file that a checkpoint needs is not there.
    #[error("{}: missing; restore the file from a backup, or use another checkpoint (`ckpt verify` lists every bad file)", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file in the store that is none of the store's.
    #[error("{}: not part of the store; move it away", path.display())]
    Stray {
        /// The file.
        path: PathBuf,
    },
    /// No checkpoint has this id.
    #[error("{id}: no such checkpoint in {}; `ckpt list` shows those that exist", store.display())]
    NoCheckpoint {
        /// The id asked for.
        id: CheckpointId,
        /// The store.
        store: PathBuf,
    },
    /// The checkpoint is the parent of one that is being written at this moment.
    #[error("{id}: checkpoint {writer} is being written on top of it; try again when that is done")]
    InUse {
        /// The checkpoint to be removed.
        id: CheckpointId,
        /// The one being written.
        writer: String,
    },
    /// A job's name is empty, too long or has control characters.
    #[error("{job:?}: not a job name: {reason}; choose another with --name")]
    InvalidJob {
        /// The name.
        job: String,
        /// Why not.
        reason: &'static str,
    },
    /// A checkpoint can only have a parent of the same job.
    #[error(
        "{parent}: belongs to job {other}, it cannot be the parent of a checkpoint of job {job}; take a full checkpoint"
    )]
    ForeignParent {
        /// The parent asked for.
        parent: CheckpointId,
        /// The parent's job.
        other: String,
        /// The new checkpoint's job.
        job: String,
    },
    /// The image holds a record that it cannot be used without and that this library does not know.
    #[error("{}: holds a record of kind {kind} version {version}, which this ckpt does not know and cannot restore without; use a newer ckpt", path.display())]
    UnknownRecord {
        /// The file.
        path: PathBuf,
        /// Record kind.
        kind: u16,
        /// Record version.
        version: u16,
    },
    /// The image lacks a record that every image has.
    #[error("{}: has no record {name}; use another checkpoint", path.display())]
    NoRecord {
        /// The file.
        path: PathBuf,
        /// The record's name.
        name: &'static str,
    },
    /// A record cannot be encoded.
    #[error("record {name}: cannot be encoded: {reason}; please report this")]
    Encode {
        /// The record's name.
        name: &'static str,
        /// Why not.
        reason: String,
    },
    /// The caller's pages are not whole pages, or lie beyond the last page number.
    #[error("pages from {first_page:#x}, {length} bytes: {reason}; please report this")]
    InvalidPages {
        /// First page's number.
        first_page: u64,
        /// Bytes given.
        length: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Any other error of the system.
    #[error("{}: cannot {action}: {source}; check the file system (`dmesg` has its messages) and try again", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl StoreError {
    /// The file or directory that the error is about, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::NotFound { path }
            | Self::NotAStore { path, .. }
            | Self::Newer { path, .. }
            | Self::NotWritable { path, .. }
            | Self::NotReadable { path, .. }
            | Self::DiskFull { path, .. }
            | Self::TooManyFiles { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Swapped { path, .. }
            | Self::Missing { path }
            | Self::Stray { path }
            | Self::UnknownRecord { path, .. }
            | Self::NoRecord { path, .. }
            | Self::Io { path, .. } => Some(path),
            Self::NoCheckpoint { store, .. } => Some(store),
            _ => None,
        }
    }

    /// Whether the files are at fault rather than the system or the caller: corrupt, swapped, missing, stray.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. } | Self::Swapped { .. } | Self::Missing { .. } | Self::Stray { .. }
        )
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into() }
    }

    /// An error met while reading `path`.
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::from_io(path, "read", false)
    }

    /// An error met while writing `path`.
    pub(crate) fn writing(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        Self::from_io(path, action, true)
    }

    fn from_io(path: &Path, action: &'static str, write: bool) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => Self::DiskFull { path, source },
                Some(libc::EMFILE | libc::ENFILE) => Self::TooManyFiles { path, source },
                Some(libc::EACCES | libc::EPERM | libc::EROFS) if write => Self::NotWritable { path, source },
                Some(libc::EACCES | libc::EPERM) => Self::NotReadable { path, source },
                Some(libc::ENOENT) if !write => Self::Missing { path },
                _ => Self::Io { path, action, source },
            }
        }
    }
}
