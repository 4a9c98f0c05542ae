use super::{FileIdent, MmId, ShmemId, VmaV1};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// An address space. Its private pages are the image's pages of [`crate::page::Space::Private`].
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MmV1 {
    /// Its id.
    pub id: MmId,
    /// The addresses of `struct prctl_mm_map`, in its order: start_code, end_code, start_data, end_data,
    /// start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end.
    pub layout: [u64; 11],
    /// /proc/PID/auxv.
    pub auxv: Vec<u8>,
    /// What /proc/PID/exe names.
    pub exe: Vec<u8>,
    /// The identity of that file.
    pub exe_ident: FileIdent,
    /// PR_GET_DUMPABLE.
    pub dumpable: u32,
    /// PR_GET_THP_DISABLE.
    pub thp_disable: bool,
    /// mlockall(MCL_FUTURE) and MCL_ONFAULT, as VM_LOCKED bits of the default flags; 0 when not set or not known.
    pub def_flags: u64,
    /// Protection keys that are allocated (pkey_alloc(2)), bit N for key N; key 0 always is.
    pub protection_keys: u32,
    /// Mappings by rising address.
    pub vmas: Vec<VmaV1>,
}

/// Shared memory without a name in the file system: shared anonymous mappings, memfds and System V segments. Its pages are the
/// image's pages of [`crate::page::Space::Shmem`].
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct ShmemV1 {
    /// Its id.
    pub id: ShmemId,
    /// Bytes.
    pub size: u64,
    /// The memfd's name, without `/memfd:`; None for shared anonymous memory.
    pub memfd_name: Option<Vec<u8>>,
    /// F_GET_SEALS of a memfd.
    pub seals: u32,
    /// Mode bits of a memfd's inode or a segment; SHM_DEST (octal 1000) of a segment that goes with its last attachment.
    pub mode: u32,
    /// Owner of a memfd's inode or a segment: user and group id.
    pub owner: (u32, u32),
    /// What makes it a System V segment.
    pub segment: Option<SegmentV1>,
    /// Bytes of its pages, when they are huge pages of hugetlbfs (MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB); 0: ordinary ones.
    pub page_size: u64,
}

/// Names of a System V shared memory segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SegmentV1 {
    /// Its id.
    pub id: i32,
    /// Its key; 0 is IPC_PRIVATE.
    pub key: i32,
}
