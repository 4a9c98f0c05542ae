//! Memory whose page faults the program handles itself (userfaultfd(2)): it is filled when its userfaultfd is there, and neither tracked nor filled late, for a
//! mapping can have one userfaultfd only.
use crate::error::RestoreResult;
use ckpt_image::Image;
use ckpt_image::record::{FileKindV1, MmId, OpenFileV1, VmaV1};
use std::collections::{BTreeMap, BTreeSet};

/// The address spaces that have userfaultfds of the program's own, and the first bytes of the mappings that are registered.
#[derive(Debug, Default)]
pub(crate) struct HandledFaults(BTreeMap<MmId, BTreeSet<u64>>);

impl HandledFaults {
    /// Reads them.
    pub(crate) fn read(image: &Image) -> RestoreResult<Self> {
        let mut found: BTreeMap<MmId, BTreeSet<u64>> = BTreeMap::new();
        for file in image.records::<OpenFileV1>()? {
            if let FileKindV1::Userfaultfd(record) = file.kind {
                found.entry(record.mm).or_default().extend(record.areas.iter().map(|area| area.start));
            }
        }
        Ok(Self(found))
    }

    /// Whether the program handles faults of this address space, or is about to.
    pub(crate) fn any(&self, mm: MmId) -> bool {
        self.0.contains_key(&mm)
    }

    /// Whether it handles faults of this mapping.
    pub(crate) fn has(&self, mm: MmId, vma: &VmaV1) -> bool {
        self.0.get(&mm).is_some_and(|areas| areas.contains(&vma.start))
    }
}
