use super::OpenFileId;
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// An io_uring(7) instance without requests in flight.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct IoUringV1 {
    /// Inode: what mappings of its rings refer to it by.
    pub inode: u64,
    /// IORING_SETUP_* as far as they matter and can be known: R_DISABLED, SINGLE_ISSUER, DEFER_TASKRUN, NO_SQARRAY.
    pub flags: u32,
    /// Process that holds it, and the only thread that may use it (SINGLE_ISSUER) or the process's main thread.
    pub user: (i32, i32),
    /// Entries of the submission queue.
    pub submissions: u32,
    /// Entries of the completion queue.
    pub completions: u32,
    /// Requests that were submitted since it was made, and that were completed: both queues count up to 2^32.
    pub submitted: u32,
    /// Tail of the submission queue.
    pub tail: u32,
    /// Head of the completion queue.
    pub completion_head: u32,
    /// IORING_CQ_*.
    pub completion_flags: u32,
    /// The submission queue's numbers of entries; empty with NO_SQARRAY.
    pub array: Vec<u32>,
    /// The submission queue's entries, 64 bytes each, as far as any is not zero.
    pub entries: Vec<u8>,
    /// Completions that were not read, 16 bytes each.
    pub unread: Vec<u8>,
    /// Registered files by slot.
    pub files: Vec<Option<OpenFileId>>,
    /// Registered buffers by slot: address and bytes; (0, 0) is none.
    pub buffers: Vec<(u64, u64)>,
}
