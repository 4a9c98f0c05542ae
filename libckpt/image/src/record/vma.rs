use super::{AioRingV1, FileIdent, GhostId, OpenFileId, ShmemId};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// One mapping.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct VmaV1 {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    /// PROT_*.
    pub prot: u32,
    /// PROT_* that mprotect could give it, from the VmFlags mr, mw, me.
    pub max_prot: u32,
    /// What it maps.
    pub backing: BackingV1,
    /// `VmFlags` that mmap(2) and madvise(2) set, as [`vma_flags`] bits.
    pub flags: u64,
    /// Protection key (pkey_mprotect(2)).
    pub protection_key: u8,
    /// Name from PR_SET_VMA_ANON_NAME.
    pub name: Option<Vec<u8>>,
    /// Guard regions (MADV_GUARD_INSTALL) within it: first byte, first byte after.
    pub guards: Vec<(u64, u64)>,
    /// Of a private mapping of a file or memfd: the pages that are the program's own copies, first byte, first byte after. One of them that the
    /// image does not hold is zero; all other pages are the file's.
    pub copies: Vec<(u64, u64)>,
}

/// What a mapping maps.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum BackingV1 {
    /// Private anonymous memory: heap, stacks, mmap.
    Anonymous,
    /// Shared anonymous memory or a memfd, shared.
    Shmem {
        /// The object.
        shmem: ShmemId,
        /// Offset in it, bytes.
        offset: u64,
    },
    /// A memfd mapped private.
    ShmemPrivate {
        /// The object.
        shmem: ShmemId,
        /// Offset in it, bytes.
        offset: u64,
    },
    /// A file.
    File {
        /// Which.
        file: MappedFileV1,
        /// Offset in it, bytes.
        offset: u64,
        /// MAP_SHARED.
        shared: bool,
    },
    /// [vdso].
    Vdso,
    /// [vvar] and [vvar_vclock].
    Vvar,
    /// [vsyscall]: fixed, never mapped nor saved.
    Vsyscall,
    /// The ring of an io_setup(2) context without requests in flight.
    AioRing(AioRingV1),
    /// A part of the rings of an io_uring(7) instance.
    IoUring {
        /// The instance's inode, as [`super::IoUringV1`] has it.
        inode: u64,
        /// IORING_OFF_*: which part.
        offset: u64,
    },
    /// Private anonymous memory of huge pages (MAP_HUGETLB).
    HugeAnonymous {
        /// Bytes of a page.
        page_size: u64,
    },
    /// All rings of an AF_PACKET socket.
    PacketRings {
        /// The socket's inode, as [`super::SocketV1`] has it.
        inode: u64,
        /// MAP_SHARED. A private mapping shows the ring, too, and is of no use for more: what the program writes there the kernel does not see.
        shared: bool,
    },
}

/// The file behind a mapping.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MappedFileV1 {
    /// Path.
    pub path: Vec<u8>,
    /// Identity at capture.
    pub ident: FileIdent,
    /// The contents, when the file had no name any more.
    pub ghost: Option<GhostId>,
    /// A descriptor of the job that refers to the same file, if one is needed to map it again.
    pub open_file: Option<OpenFileId>,
    /// It must be opened for writing: a shared mapping that may be written.
    pub writable: bool,
}

/// Bits of [`VmaV1::flags`].
#[allow(missing_docs)]
pub mod vma_flags {
    pub const GROWSDOWN: u64 = 1 << 0;
    pub const LOCKED: u64 = 1 << 1;
    pub const LOCK_ON_FAULT: u64 = 1 << 2;
    pub const NORESERVE: u64 = 1 << 3;
    pub const HUGEPAGE: u64 = 1 << 4;
    pub const NOHUGEPAGE: u64 = 1 << 5;
    pub const DONTFORK: u64 = 1 << 6;
    pub const DONTDUMP: u64 = 1 << 7;
    pub const WIPEONFORK: u64 = 1 << 8;
    pub const MERGEABLE: u64 = 1 << 9;
    pub const SEQUENTIAL: u64 = 1 << 10;
    pub const RANDOM: u64 = 1 << 11;
    pub const DROPPABLE: u64 = 1 << 12;
    pub const SYNC: u64 = 1 << 13;
    pub const SEALED: u64 = 1 << 14;
}
