use super::{FsId, GhostId, OpenFileId};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A file that is in use, and that no path leads to any more.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct NamelessV1 {
    /// What it is.
    pub node: NamelessNodeV1,
    /// The path that it had, without ` (deleted)`.
    pub path: Vec<u8>,
    /// Type and permission bits.
    pub mode: u32,
    /// User and group id.
    pub owner: (u32, u32),
    /// Time of the last access, ns since the epoch.
    pub atime_ns: i64,
    /// Time of the last modification, ns since the epoch.
    pub mtime_ns: i64,
    /// Open files that are of it; those of a regular file without any name ([`NamelessNodeV1::Ghost`]) name it themselves.
    pub files: Vec<OpenFileId>,
    /// Directories of processes whose working directory it is.
    pub directories: Vec<FsId>,
    /// inotify instances that watch it, with the number of the watch.
    pub watches: Vec<(OpenFileId, i32)>,
}

/// What a file without a path is.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum NamelessNodeV1 {
    /// An unlinked regular file.
    Ghost(GhostId),
    /// A removed directory.
    Directory,
    /// An unlinked FIFO.
    Fifo,
    /// An unlinked symbolic link.
    Symlink {
        /// Where it leads.
        target: Vec<u8>,
    },
    /// An unlinked device file.
    Device {
        /// Device number.
        rdev: u64,
    },
    /// It has a name, but the kernel does not tell which: found again by its handle.
    Elsewhere {
        /// Device number of its file system.
        device: u64,
        /// Type of the handle, as name_to_handle_at(2) gives it.
        handle_kind: i32,
        /// The handle.
        handle: Vec<u8>,
    },
    /// The directory in /proc of a process that has ended.
    Process,
}
