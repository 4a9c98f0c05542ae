//! Records: one typed, versioned piece of state each.
//!
//! A record is a plain struct with a `V1` suffix, encoded in bincode's format (fixed-width little-endian
//! integers, `u64` lengths, `u32` enum tags). A change of shape makes a `V2` beside it; the old one stays
//! readable. Records refer to each other by ids that are unique within one image ([`MmId`] and its kin), so that
//! what the kernel shares between tasks is stored once and shared again after restore.
mod aio;
mod cgroups;
mod controls;
mod creds;
mod dead_task;
mod fd;
mod file;
mod fs;
mod inet;
mod inventory;
mod iouring;
mod kind;
mod memory_policy;
mod message_queue;
mod mm;
mod mqueue;
mod named_file;
mod nameless;
mod namespaces;
mod packet_socket;
mod seccomp;
mod semaphores;
mod sighand;
mod socket;
mod task;
mod terminal;
mod thread;
mod timer;
mod tmpfs;
mod tun;
mod unshared;
mod userfaultfd;
mod vma;

pub use aio::*;
pub use cgroups::*;
pub use controls::*;
pub use creds::*;
pub use dead_task::*;
pub use fd::*;
pub use file::*;
pub use fs::*;
pub use inet::*;
pub use inventory::*;
pub use iouring::*;
pub use kind::*;
pub use memory_policy::*;
pub use message_queue::*;
pub use mm::*;
pub use mqueue::*;
pub use named_file::*;
pub use nameless::*;
pub use namespaces::*;
pub use packet_socket::*;
pub use seccomp::*;
pub use semaphores::*;
pub use sighand::*;
pub use socket::*;
pub use task::*;
pub use terminal::*;
pub use thread::*;
pub use timer::*;
pub use tmpfs::*;
pub use tun::*;
pub use unshared::*;
pub use userfaultfd::*;
pub use vma::*;

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaRead, SchemaWrite, Serialize, Deserialize)]
        pub struct $name(pub u32);
    )* };
}
ids! {
    /// An address space ([`MmV1`]).
    MmId;
    /// A table of file descriptors ([`FdTableV1`]).
    FdTableId;
    /// Working directory, root and umask ([`FsV1`]).
    FsId;
    /// A table of signal actions ([`SighandV1`]).
    SighandId;
    /// An open file description ([`OpenFileV1`]).
    OpenFileId;
    /// A memory object that mappings and descriptors share: shared anonymous memory or a memfd ([`ShmemV1`]).
    ShmemId;
    /// The contents of an unlinked regular file ([`GhostV1`]).
    GhostId;
    /// A filter of system calls ([`SeccompFilterV1`]).
    SeccompFilterId;
}
