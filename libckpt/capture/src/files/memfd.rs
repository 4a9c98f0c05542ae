//! memfd_create(2).
use super::{Context, FoundFile};
use crate::content;
use crate::error::CaptureResult;
use ckpt_image::record::{FileKindV1, ShmemId};

/// Saves a descriptor of a memfd; its contents are those of the memory object.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let name = file.path().strip_prefix(b"/memfd:").unwrap_or_default().to_vec();
    let Some(objects) = &mut context.objects else { return Ok(FileKindV1::Memfd { shmem: ShmemId(0) }) };
    // A description of our own: to look for holes moves the position.
    let own = content::open_link(file.place.0, &format!("fd/{}", file.place.1))?;
    Ok(FileKindV1::Memfd { shmem: content::shmem(objects, &own, Some(name))? })
}
