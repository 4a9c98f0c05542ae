//! The file behind a mapping. Only a privileged process may follow the links of /proc/PID/map_files (CAP_CHECKPOINT_RESTORE in the first user
//! namespace); for others a descriptor or a path leads to the file, or else its contents are read where they are mapped.
use crate::content;
use crate::error::CaptureResult;
use crate::objects::{CopiedPages, Objects};
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{ShmemId, ShmemV1};
use ckpt_sys::inject::Injector;
use ckpt_sys::proc::{self, maps::Mapping};
use ckpt_sys::{RemoteAddr, SysError};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes that mincore(2) is asked for in one call: a byte for each page of them has room in the target's scratch area.
const ASKED: u64 = 4096 * PAGE;
/// Bytes copied in one piece.
const PIECE: u64 = 1 << 20;
/// Its first line has headings.
const SWAPS: &str = "/proc/swaps";

/// A path that leads to the file behind a mapping, and what it leads to. None: nothing does that may be followed.
pub(crate) fn find(pid: i32, mapping: &Mapping) -> CaptureResult<Option<(PathBuf, Metadata)>> {
    let link = PathBuf::from(proc::path(pid, &format!("map_files/{:x}-{:x}", mapping.start, mapping.end)));
    match std::fs::metadata(&link) {
        Ok(meta) => return Ok(Some((link, meta))),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        Err(error) => return Err(SysError::new("stat", link.display().to_string(), error).into()),
    }
    let device = libc::makedev(mapping.device.0, mapping.device.1);
    let is_it = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok()?;
        ((meta.dev(), meta.ino()) == (device, mapping.inode)).then_some((path, meta))
    };
    let path = Path::new(OsStr::from_bytes(&mapping.path));
    let named = (path.is_absolute() && !mapping.deleted).then(|| is_it(path.to_owned())).flatten();
    if named.is_some() {
        return Ok(named);
    }
    let fds = std::fs::read_dir(proc::path(pid, "fd"));
    Ok(fds.ok().and_then(|fds| fds.flatten().find_map(|fd| is_it(fd.path()))))
}

/// Opens the file behind a mapping for reading, if anything leads to it.
pub(crate) fn open(pid: i32, mapping: &Mapping) -> CaptureResult<Option<File>> {
    let Some((path, _)) = find(pid, mapping)? else { return Ok(None) };
    match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        file => Ok(Some(file.map_err(|error| SysError::new("open", path.display().to_string(), error))?)),
    }
}

/// The shared memory object that a mapping is of, as far as it is mapped by any process of the job: nobody can get at the rest.
pub(crate) fn shmem_in_memory(
    objects: &mut Objects,
    injector: &mut Injector<'_>,
    mapping: &Mapping,
    memfd_name: Option<Vec<u8>>,
) -> CaptureResult<ShmemId> {
    let (id, new) = objects.shmem(key(mapping));
    let end = mapping.offset + mapping.end - mapping.start;
    if new {
        let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let mode = libc::S_IFREG | 0o777;
        let size = end.next_multiple_of(PAGE);
        let page_size = mapping.page_size;
        objects.shmems.push(ShmemV1 {
            id,
            size,
            memfd_name,
            seals: 0,
            mode,
            owner,
            segment: None,
            page_size,
        });
    } else if let Some(record) = objects.shmems.iter_mut().find(|record| record.id == id) {
        record.size = record.size.max(end);
    }
    copy_new(objects, injector, mapping, id)?;
    Ok(id)
}

/// The System V segment that a mapping is of, as far as it is mapped.
pub(crate) fn segment_in_memory(
    objects: &mut Objects,
    injector: &mut Injector<'_>,
    mapping: &Mapping,
    segment: i32,
) -> CaptureResult<ShmemId> {
    let (id, new) = objects.shmem(key(mapping));
    if new {
        objects.shmems.push(content::segment_record(id, segment, mapping.page_size)?);
    }
    copy_new(objects, injector, mapping, id)?;
    Ok(id)
}

fn key(mapping: &Mapping) -> (u64, u64) {
    (libc::makedev(mapping.device.0, mapping.device.1), mapping.inode)
}

/// Copies what no earlier mapping of the object has shown.
fn copy_new(
    objects: &mut Objects,
    injector: &mut Injector<'_>,
    mapping: &Mapping,
    id: ShmemId,
) -> CaptureResult<()> {
    let shown = mapping.offset..mapping.offset + (mapping.end - mapping.start);
    let known = objects.in_memory.entry(id).or_default();
    let mut new = vec![shown.clone()];
    for known in known.iter() {
        new = new.into_iter().flat_map(|range| without(range, known)).collect();
    }
    known.push(shown);
    for range in new {
        let at = mapping.start + (range.start - mapping.offset);
        for present in present(injector, at..at + (range.end - range.start))? {
            copy(objects, injector, mapping, id, present)?;
        }
    }
    Ok(())
}

fn without(range: Range<u64>, known: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let parts = [range.start..range.end.min(known.start), range.start.max(known.end)..range.end];
    parts.into_iter().filter(|part| !part.is_empty())
}

/// The addresses of a shared mapping that have pages. With swap areas, all: mincore(2) does not tell what is swapped out from what was never
/// there.
fn present(injector: &mut Injector<'_>, range: Range<u64>) -> CaptureResult<Vec<Range<u64>>> {
    let swaps = std::fs::read_to_string(SWAPS).unwrap_or_default().lines().count() > 1;
    if swaps || range.is_empty() {
        return Ok(vec![range]);
    }
    let mut found: Vec<Range<u64>> = Vec::new();
    let room = injector.reserve(usize::try_from(ASKED / PAGE).unwrap_or(0))?;
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + ASKED);
        if injector.syscall(libc::SYS_mincore, &[at, end - at, room.get()])?.is_err() {
            return Ok(vec![range]);
        }
        let mut pages = vec![0u8; usize::try_from((end - at).div_ceil(PAGE)).unwrap_or(0)];
        injector.memory().read(room, &mut pages)?;
        for (index, _) in pages.iter().enumerate().filter(|(_, byte)| **byte & 1 != 0) {
            let start = at + u64::try_from(index).unwrap_or(0) * PAGE;
            match found.last_mut() {
                Some(last) if last.end == start => last.end += PAGE,
                _ => found.push(start..start + PAGE),
            }
        }
        at = end;
    }
    Ok(found)
}

fn copy(
    objects: &mut Objects,
    injector: &Injector<'_>,
    mapping: &Mapping,
    id: ShmemId,
    range: Range<u64>,
) -> CaptureResult<()> {
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + PIECE);
        let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(0)];
        injector.memory().read(RemoteAddr::new(at), &mut bytes)?;
        let first_page = (mapping.offset + (at - mapping.start)) / PAGE;
        objects.copied.push(CopiedPages { space: Space::Shmem(id), first_page, bytes });
        at = end;
    }
    Ok(())
}

/// As [`open`], where nothing else would do.
pub(crate) fn must_open(pid: i32, mapping: &Mapping) -> CaptureResult<File> {
    match open(pid, mapping)? {
        Some(file) => Ok(file),
        None => content::open_link(pid, &format!("map_files/{:x}-{:x}", mapping.start, mapping.end)),
    }
}
