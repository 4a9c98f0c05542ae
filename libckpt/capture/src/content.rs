//! Contents of memory objects and unlinked files: copied while the job is frozen, each object once.
use crate::error::{CaptureError, CaptureResult};
use crate::nameless;
use crate::objects::{CopiedPages, InodeKey, Objects};
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{GhostId, GhostV1, NamelessNodeV1, SegmentV1, ShmemId, ShmemV1};
use ckpt_sys::sysv_shm::{self, Segment};
use ckpt_sys::{SysError, huge_pages};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes copied in one piece.
const PIECE: u64 = 1 << 20;
const PAGE: u64 = PAGE_SIZE as u64;

/// The object that shared anonymous memory or a memfd is. `file` is any description of it that can be read; `memfd_name` without `/memfd:`.
/// The first time, its record and contents are added to `objects`.
pub(crate) fn shmem(
    objects: &mut Objects,
    file: &File,
    memfd_name: Option<Vec<u8>>,
) -> CaptureResult<ShmemId> {
    let meta = metadata(file)?;
    let (id, new) = objects.shmem(key(&meta));
    if new {
        let seals = match &memfd_name {
            Some(_) => seals(file)?,
            None => 0,
        };
        let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
        let page_size = huge_pages::page_size(file)?;
        objects.shmems.push(ShmemV1 {
            id,
            size: meta.len(),
            memfd_name,
            seals,
            mode,
            owner,
            segment: None,
            page_size,
        });
        copy(objects, file, Space::Shmem(id), meta.len())?;
    }
    Ok(id)
}

/// The System V segment with id `segment`, whose memory `file` is a description of. The first time, its record and contents are added to
/// `objects`.
pub(crate) fn segment(objects: &mut Objects, file: &File, segment: i32) -> CaptureResult<ShmemId> {
    let (id, new) = objects.shmem(key(&metadata(file)?));
    if new {
        let record = segment_record(id, segment, huge_pages::page_size(file)?)?;
        let size = record.size;
        objects.shmems.push(record);
        copy(objects, file, Space::Shmem(id), size)?;
    }
    Ok(id)
}

/// The record of memory object `id`, which is the System V segment with id `segment`.
pub(crate) fn segment_record(id: ShmemId, segment: i32, page_size: u64) -> CaptureResult<ShmemV1> {
    let Segment { key, size, mode, owner, .. } = sysv_shm::stat(segment)?;
    let segment = Some(SegmentV1 { id: segment, key });
    Ok(ShmemV1 { id, size, memfd_name: None, seals: 0, mode, owner, segment, page_size })
}

/// The unlinked regular file that `file`, which can be read, is a description of; `path` is what it was called. The first time, its record and
/// contents are added to `objects`.
pub(crate) fn ghost(objects: &mut Objects, file: &File, path: &[u8]) -> CaptureResult<GhostId> {
    let meta = metadata(file)?;
    let (id, new) = objects.ghost(key(&meta));
    if new {
        let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
        objects.ghosts.push(GhostV1 { id, path: path.to_vec(), size: meta.len(), mode, owner });
        nameless::add(objects, NamelessNodeV1::Ghost(id), &meta, path);
        copy(objects, file, Space::Ghost(id), meta.len())?;
    }
    Ok(id)
}

fn key(meta: &Metadata) -> InodeKey {
    (meta.dev(), meta.ino())
}

fn metadata(file: &File) -> CaptureResult<Metadata> {
    file.metadata().map_err(|error| SysError::new("fstat", describe(file), error).into())
}

fn seals(file: &File) -> CaptureResult<u32> {
    // SAFETY: no pointers.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    u32::try_from(seals).map_err(|_| SysError::last("fcntl(F_GET_SEALS)", describe(file)).into())
}

/// The parts of an object, in whole pages, within `range` that are not holes.
pub(crate) fn data(file: &File, range: Range<u64>) -> CaptureResult<Vec<Range<u64>>> {
    let mut parts = Vec::new();
    let mut at = range.start;
    while let Some(start) = seek(file, at, Whence::SeekData)?.filter(|start| *start < range.end) {
        at = seek(file, start, Whence::SeekHole)?.unwrap_or(range.end).next_multiple_of(PAGE).min(range.end);
        parts.push(start - start % PAGE..at);
    }
    Ok(parts)
}

/// Copies all of an object that is not a hole.
pub(crate) fn copy(objects: &mut Objects, file: &File, space: Space, size: u64) -> CaptureResult<()> {
    let mut at = 0;
    while let Some(start) = seek(file, at, Whence::SeekData)?.filter(|start| *start < size) {
        let end = seek(file, start, Whence::SeekHole)?.unwrap_or(size).min(size);
        let mut from = start - start % PAGE;
        while from < end {
            let to = (from + PIECE).min(end);
            let mut bytes = vec![0; usize::try_from((to - from).next_multiple_of(PAGE)).unwrap_or(0)];
            read(file, &mut bytes, from)?;
            objects.copied.push(CopiedPages { space, first_page: from / PAGE, bytes });
            from = to;
        }
        at = end.next_multiple_of(PAGE);
    }
    Ok(())
}

fn seek(file: &File, offset: u64, whence: Whence) -> CaptureResult<Option<u64>> {
    match lseek(file, i64::try_from(offset).unwrap_or(i64::MAX), whence) {
        Ok(at) => Ok(Some(at.unsigned_abs())),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(SysError::new("lseek(SEEK_DATA)", describe(file), errno).into()),
    }
}

/// Fills `bytes` as far as the file goes.
fn read(file: &File, mut bytes: &mut [u8], mut offset: u64) -> CaptureResult<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, offset) {
            Ok(0) => return Ok(()),
            Ok(got) => {
                bytes = &mut bytes[got..];
                offset += u64::try_from(got).unwrap_or(0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SysError::new("read", describe(file), error).into()),
        }
    }
    Ok(())
}

fn describe(file: &File) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.map_or_else(|_| "an open file".into(), |path| path.display().to_string())
}

/// Opens the file behind a link of /proc (`fd/N`, `map_files/A-B`) for reading: a description of our own, whatever mode the job's has.
pub(crate) fn open_link(pid: i32, name: &str) -> CaptureResult<File> {
    let path = ckpt_sys::proc::path(pid, name);
    File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => CaptureError::unsupported(
            pid,
            path.clone(),
            "its contents may not be read",
            "Run ckpt as root or with CAP_CHECKPOINT_RESTORE",
        ),
        _ => SysError::new("open", path.clone(), error).into(),
    })
}
