use super::ShmemId;
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A file of a tmpfs, POSIX shared memory as a rule, that the job maps shared and may write to: its contents are memory. Its pages are the
/// image's pages of [`crate::page::Space::Shmem`].
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TmpfsFileV1 {
    /// Its id, different from those of all [`super::ShmemV1`].
    pub id: ShmemId,
    /// Path.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// User and group id.
    pub owner: (u32, u32),
}
