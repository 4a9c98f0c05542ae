use super::{FdTableId, FileKindV1, GhostId, OpenFileId};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A table of file descriptors.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FdTableV1 {
    /// Its id.
    pub id: FdTableId,
    /// Descriptors by rising number.
    pub fds: Vec<FdV1>,
}

/// One descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FdV1 {
    /// Number.
    pub fd: i32,
    /// FD_CLOEXEC.
    pub cloexec: bool,
    /// The open file description, shared by dup(2) and fork(2).
    pub file: OpenFileId,
}

/// An open file description.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct OpenFileV1 {
    /// Its id.
    pub id: OpenFileId,
    /// O_* as F_GETFL and fdinfo have them.
    pub flags: u32,
    /// File position, bytes.
    pub position: u64,
    /// F_SETOWN: type (0 none, F_OWNER_TID 0, F_OWNER_PID 1, F_OWNER_PGRP 2, as `f_owner_ex` plus one) and id; (0, 0) when none.
    pub owner: (u32, i32),
    /// F_SETSIG.
    pub owner_signal: i32,
    /// Locks held through it.
    pub locks: Vec<FileLockV1>,
    /// What it is.
    pub kind: FileKindV1,
}

/// A lock on a file, as fdinfo has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FileLockV1 {
    /// By what call it was taken.
    pub class: LockClassV1,
    /// Exclusive (a write lock), not shared.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Bytes; 0 is up to the end of the file, however long.
    pub len: u64,
    /// The process that owns a POSIX lock; 0 for the other classes.
    pub pid: i32,
}

/// By what call a lock was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum LockClassV1 {
    /// flock(2).
    Flock,
    /// fcntl(F_SETLK): the process owns it.
    Posix,
    /// fcntl(F_OFD_SETLK): the open file description owns it.
    Ofd,
    /// fcntl(F_SETLEASE): a lease, held by the open file description.
    Lease,
    /// A lease that another process asks to be lowered to a read lease.
    LeaseToRead,
    /// A lease that another process asks to be given up.
    LeaseToNone,
}

/// What tells whether a file is still the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FileIdent {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, ns since the epoch.
    pub mtime_ns: i64,
    /// Type and permission bits.
    pub mode: u32,
}

/// The contents of an unlinked regular file. Its bytes are the image's pages of [`crate::page::Space::Ghost`], the last one
/// padded with zeros.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct GhostV1 {
    /// Its id.
    pub id: GhostId,
    /// The path that it had, without ` (deleted)`.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// User and group id.
    pub owner: (u32, u32),
}
