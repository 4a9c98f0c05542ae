//! System V shared memory: segments under the ids that they had, attached where they were.
use crate::builder::Builder;
use crate::content;
use crate::error::{RestoreError, RestoreResult};
use crate::vma::describe;
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{SegmentV1, ShmemId, ShmemV1, VmaV1};
use ckpt_sys::sysv_shm::{self, Attached, SHM_DEST, Segment};
use nix::errno::Errno;
use std::collections::HashMap;

const PROT_WRITE: u32 = libc::PROT_WRITE.unsigned_abs();
const PROT_EXEC: u32 = libc::PROT_EXEC.unsigned_abs();

/// The segments of a job. Those that were made go again when this is dropped before [`Self::keep`].
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// None: the object is no segment.
    known: HashMap<ShmemId, Option<MadeSegment>>,
    made: Vec<i32>,
    /// Those that are to go with their last attachment.
    passing: Vec<i32>,
}

/// A segment that can be attached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MadeSegment {
    id: i32,
    /// Bytes of a page.
    page: u64,
}

impl Segments {
    /// The segment that a memory object is, which is made and filled the first time; None if it is none.
    pub(crate) fn id(&mut self, image: &Image, id: ShmemId) -> RestoreResult<Option<MadeSegment>> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let shmem = content::memory_object(image, id)?;
        let made = shmem.segment.map(|segment| self.make(image, &shmem, segment)).transpose()?;
        let page = shmem.page_size.max(PAGE_SIZE as u64);
        let segment = made.map(|id| MadeSegment { id, page });
        self.known.insert(id, segment);
        Ok(segment)
    }

    fn make(
        &mut self,
        image: &Image,
        shmem: &ShmemV1,
        SegmentV1 { id, key }: SegmentV1,
    ) -> RestoreResult<i32> {
        let ShmemV1 { size, mode, owner, .. } = *shmem;
        let wanted = Segment { key, size, mode, owner, attached: 0 };
        match sysv_shm::stat(id) {
            // A program that was killed leaves its segments behind.
            Ok(there) if there.attached == 0 && (there.key, there.size) == (key, size) => {}
            Ok(there) => {
                return Err(taken(
                    id,
                    &format!("it has key {:#x} and {} attachments", there.key, there.attached),
                ));
            }
            Err(error) if sysv_shm::is_missing(&error) => {
                let made = match sysv_shm::create(id, &wanted, shmem.page_size) {
                    Err(error) if error.errno() == Some(Errno::EEXIST) => {
                        return Err(taken(id, &format!("another segment has its key {key:#x}")));
                    }
                    outcome => outcome?,
                };
                self.made.push(made);
                if made != id {
                    return Err(taken(id, "the kernel did not give it"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        sysv_shm::set(id, &wanted)?;
        let memory = Attached::new(id, shmem.page_size.max(PAGE_SIZE as u64))?;
        memory.clear()?;
        content::fill(image, &memory, &format!("segment {id}"), Space::Shmem(shmem.id), size)?;
        if mode & SHM_DEST != 0 {
            self.passing.push(id);
        }
        Ok(id)
    }

    /// To be called when all of them are attached.
    pub(crate) fn finish(&mut self) -> RestoreResult<()> {
        self.passing.drain(..).try_for_each(|id| Ok(sysv_shm::remove(id)?))
    }

    /// They are the job's now.
    pub(crate) fn keep(&mut self) {
        self.made.clear();
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        for id in self.made.drain(..) {
            if let Err(error) = sysv_shm::remove(id) {
                tracing::warn!(%error, "a shared memory segment stays");
            }
        }
    }
}

fn taken(id: i32, why: &str) -> RestoreError {
    RestoreError::Machine {
        reason: format!("the program's shared memory segment {id} cannot have its id: {why}"),
        remedy: format!("Remove it (ipcs -m shows it, ipcrm -m {id}) and restore again"),
    }
}

/// Attaches a segment, or the part of it that the mapping has.
pub(crate) fn attach(
    builder: &mut Builder<'_>,
    vma: &VmaV1,
    segment: MadeSegment,
    offset: u64,
) -> RestoreResult<()> {
    let MadeSegment { id, page } = segment;
    let len = vma.end - vma.start;
    let whole = sysv_shm::stat(id)?.size.next_multiple_of(page);
    let mut flags = 0;
    let mut prot = libc::PROT_READ.unsigned_abs();
    if vma.max_prot & PROT_WRITE == 0 {
        flags |= libc::SHM_RDONLY;
    } else {
        prot |= PROT_WRITE;
    }
    if vma.prot & PROT_EXEC != 0 {
        flags |= libc::SHM_EXEC;
        prot |= PROT_EXEC;
    }
    let place = if (offset, len) == (0, whole) { vma.start } else { 0 };
    let args = [u64::from(id.unsigned_abs()), place, u64::from(flags.unsigned_abs())];
    let at = builder.call("shmat", &describe(vma), libc::SYS_shmat, &args)?;
    if place == 0 {
        let flags = u64::from((libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED).unsigned_abs());
        let args = [at + offset, len, len, flags, vma.start];
        builder.call("mremap", &describe(vma), libc::SYS_mremap, &args)?;
        for (from, to) in [(at, at + offset), (at + offset + len, at + whole)] {
            if from < to {
                builder.call("munmap", &describe(vma), libc::SYS_munmap, &[from, to - from])?;
            }
        }
    }
    if vma.prot != prot {
        let args = [vma.start, len, u64::from(vma.prot)];
        builder.call("mprotect", &describe(vma), libc::SYS_mprotect, &args)?;
    }
    Ok(())
}
