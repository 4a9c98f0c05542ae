//! Objects that descriptors and mappings of a job share, found by identity while its records are made.
use crate::connections::Held;
use crate::error::CaptureResult;
use crate::files::RingUsers;
use crate::namespaces::{Further, check_held};
use crate::seccomp::Filters;
use crate::unix_peers::UnixPeers;
use crate::userfaultfd::Userfaultfds;
use ckpt_image::page::Space;
use ckpt_image::record::{
    DeadTaskV1, FurtherNamespaceV1, GhostId, GhostV1, NamelessV1, NamespaceContentsV1, NamespacesV1,
    NetNamespaceV1, OpenFileId, OpenFileV1, ShmemId, ShmemV1, TmpfsFileV1,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that were copied while the job was frozen, to be stored after it runs on.
#[derive(Debug)]
pub(crate) struct CopiedPages {
    /// Where they belong.
    pub(crate) space: Space,
    /// Number of the first page.
    pub(crate) first_page: u64,
    /// Whole pages.
    pub(crate) bytes: Vec<u8>,
}

/// A file's identity: device and inode.
pub(crate) type InodeKey = (u64, u64);

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Open file descriptions.
    pub(crate) open_files: Vec<OpenFileV1>,
    /// Shared memory.
    pub(crate) shmems: Vec<ShmemV1>,
    /// Files of a tmpfs that are mapped shared.
    pub(crate) tmpfs_files: Vec<TmpfsFileV1>,
    /// Unlinked files.
    pub(crate) ghosts: Vec<GhostV1>,
    /// Files that no path leads to.
    pub(crate) nameless: HashMap<InodeKey, NamelessV1>,
    /// TCP connections.
    pub(crate) held: Held,
    /// What becomes of AF_UNIX sockets with a peer outside.
    pub(crate) unix_peers: UnixPeers,
    /// Contents of ghosts and shared memory.
    pub(crate) copied: Vec<CopiedPages>,
    /// Threads that use io_uring instances.
    pub(crate) ring_users: RingUsers,
    /// Userfaultfds of the program's own.
    pub(crate) userfaultfds: Userfaultfds,
    /// Filters of system calls.
    pub(crate) filters: Filters,
    /// Of shared memory that is read where it is mapped: the parts that are copied, bytes.
    pub(crate) in_memory: HashMap<ShmemId, Vec<Range<u64>>>,
    /// Namespaces that the root is not in.
    pub(crate) further: Arc<Further>,
    /// Open files that belong to those.
    pub(crate) further_files: Vec<(OpenFileId, usize)>,
    shmem_ids: HashMap<InodeKey, ShmemId>,
    ghost_ids: HashMap<InodeKey, GhostId>,
}

impl Objects {
    /// Of a job whose connections are `held`, and some of whose processes are in `further` namespaces.
    pub(crate) fn new(held: Held, unix_peers: UnixPeers, further: Further) -> Self {
        Self { held, unix_peers, further: Arc::new(further), ..Self::default() }
    }

    /// The records of the further namespaces, when all descriptors have been looked at.
    pub(crate) fn capture_further(&self, dead: &[DeadTaskV1]) -> CaptureResult<Vec<FurtherNamespaceV1>> {
        self.further.capture(&self.further_files, dead)
    }

    /// Refuses network interfaces in namespaces of the job whose descriptors are outside, when all descriptors have been looked at.
    pub(crate) fn check_interfaces(
        &self,
        root: i32,
        own: Option<&NamespacesV1>,
        further: &[FurtherNamespaceV1],
    ) -> CaptureResult<()> {
        let of = |net: &'_ NetNamespaceV1, at: Option<usize>| {
            let files = self.open_files.iter().filter(|file| {
                let mut places = self.further_files.iter().filter(|(id, _)| *id == file.id);
                places.find(|(_, at)| !self.further.is_mounts(*at)).map(|(_, at)| *at) == at
            });
            check_held(root, &net.links, files)
        };
        if let Some(net) = own.and_then(|own| own.net.as_ref()) {
            of(net, None)?;
        }
        for (at, namespace) in further.iter().enumerate() {
            if let NamespaceContentsV1::Net(net) = &namespace.contents {
                of(net, Some(at))?;
            }
        }
        Ok(())
    }

    /// The id of the shared memory object or tmpfs file with this inode, and whether it is new: then the caller adds its record and its pages.
    pub(crate) fn shmem(&mut self, key: InodeKey) -> (ShmemId, bool) {
        let next = ShmemId(u32::try_from(self.shmem_ids.len()).unwrap_or(u32::MAX));
        let id = *self.shmem_ids.entry(key).or_insert(next);
        (id, id == next)
    }

    /// The id of the unlinked file with this inode, and whether it is new: then the caller adds its record and its pages.
    pub(crate) fn ghost(&mut self, key: InodeKey) -> (GhostId, bool) {
        let next = GhostId(u32::try_from(self.ghost_ids.len()).unwrap_or(u32::MAX));
        let id = *self.ghost_ids.entry(key).or_insert(next);
        (id, id == next)
    }
}
