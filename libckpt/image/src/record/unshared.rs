use super::{FdTableId, FsId};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A thread that has something for itself which threads of one process share otherwise (unshare(2)). They come in an order in which each can be
/// made by its process's first thread or by one before it.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct UnsharedV1 {
    /// Its process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// Its table of descriptors; none: its process's. The id has the number of the first thread that has the table.
    pub fd_table: Option<FdTableId>,
    /// Its directories and umask; none: its process's. The id has the number of the first thread that has them.
    pub fs: Option<FsId>,
}
