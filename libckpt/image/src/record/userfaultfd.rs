use super::MmId;
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A userfaultfd(2) of the program's own.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct UserfaultfdV1 {
    /// The address space whose faults it is for.
    pub mm: MmId,
    /// UFFD_FEATURE_* that were agreed on; None: the handshake has not been made.
    pub features: Option<u64>,
    /// What is registered with it, by rising address.
    pub areas: Vec<UserfaultfdAreaV1>,
}

/// One mapping that is registered with a userfaultfd.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct UserfaultfdAreaV1 {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    /// UFFDIO_REGISTER_MODE_*.
    pub modes: u64,
    /// Pages that are there, first byte, first byte after. One of them that the image does not hold is zero; all other pages are missing.
    pub present: Vec<(u64, u64)>,
    /// Pages that are write-protected (UFFDIO_WRITEPROTECT), missing ones among them: first byte, first byte after.
    pub protected: Vec<(u64, u64)>,
}
