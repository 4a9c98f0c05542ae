//! Where a page of a checkpoint belongs.
use crate::record::{GhostId, MmId, ShmemId};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// Bytes a page. Images record it; this version writes and reads no other.
pub const PAGE_SIZE: usize = 4096;

/// A range of page numbers belongs to one of these. A page number is an address or an offset divided by [`PAGE_SIZE`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaRead, SchemaWrite, Serialize, Deserialize,
)]
pub enum Space {
    /// Private pages of an address space, by virtual address.
    Private(MmId),
    /// Pages of a shared memory object, by offset.
    Shmem(ShmemId),
    /// Pages of an unlinked file's contents, by offset.
    Ghost(GhostId),
}
