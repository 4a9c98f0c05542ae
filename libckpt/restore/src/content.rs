//! Memory objects and unlinked files: made and filled by us, once each, and opened by the process under construction through our descriptors.
use crate::canonical;
use crate::error::{RestoreError, RestoreResult};
use crate::files::Queues;
use crate::memory_policy::MemoryPolicies;
use crate::nameless::{self, Nameless};
use crate::namespaces::Further;
use crate::segment::Segments;
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::record::{GhostId, GhostV1, ShmemId, ShmemV1};
use ckpt_sys::canonical::Place;
use ckpt_sys::huge_pages::{self, MemoryFile};
use ckpt_sys::{SysError, memory};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::fs::{File, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

const PAGE: u64 = PAGE_SIZE as u64;
const F_SEAL_SEAL: u32 = 0x1;
const F_SEAL_FUTURE_WRITE: u32 = 0x10;

/// What was made so far. Our descriptors are closed with it, when the process has its own descriptors and mappings.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    shmems: HashMap<ShmemId, File>,
    ghosts: HashMap<GhostId, File>,
    /// Memfds whose first description has been given away.
    originals: HashSet<ShmemId>,
    memfds: HashSet<ShmemId>,
    /// Seals that would keep the process from getting the mappings that it had.
    late_seals: Vec<(ShmemId, u32)>,
    /// System V segments.
    pub(crate) segments: Segments,
    /// POSIX message queues.
    pub(crate) queues: Queues,
    /// Files that no path leads to.
    pub(crate) nameless: Nameless,
    /// Namespaces that the job's root is not in.
    pub(crate) further: Rc<Further>,
    /// From which NUMA nodes memory comes.
    pub(crate) policies: Rc<MemoryPolicies>,
}

impl Contents {
    /// The path by which a process opens memory object `id`, which is made and filled the first time.
    pub(crate) fn shmem_link(&mut self, image: &Image, id: ShmemId) -> RestoreResult<Vec<u8>> {
        if let Some(file) = self.shmems.get(&id) {
            return Ok(link(file));
        }
        let shmem = memory_object(image, id)?;
        let file = match &shmem.memfd_name {
            Some(name) => make_memfd(name, shmem.page_size)?,
            None => make_anonymous(shmem.size, shmem.page_size)?,
        };
        resize(&file, shmem.size)?;
        fill(image, &MemoryFile::new(&file)?, &own_fd(&file), Space::Shmem(id), shmem.size)?;
        if shmem.memfd_name.is_some() {
            self.memfds.insert(id);
            set_owner(&file, shmem.owner, shmem.mode)?;
            let late = shmem.seals & (F_SEAL_SEAL | F_SEAL_FUTURE_WRITE);
            add_seals(&file, shmem.seals & !late)?;
            self.late_seals.push((id, late));
        }
        let path = link(&file);
        self.shmems.insert(id, file);
        Ok(path)
    }

    /// Our descriptor of object `id`, if it is a memfd that has been made.
    pub(crate) fn memfd(&self, id: ShmemId) -> Option<u64> {
        let file = self.shmems.get(&id).filter(|_| self.memfds.contains(&id))?;
        Some(u64::from(file.as_raw_fd().unsigned_abs()))
    }

    /// The description that a memfd was made with; to be had once.
    pub(crate) fn take_original(&mut self, id: ShmemId) -> RestoreResult<Option<OwnedFd>> {
        let Some(file) = self.shmems.get(&id).filter(|_| self.originals.insert(id)) else { return Ok(None) };
        let copy = file.try_clone().map_err(|error| SysError::new("dup", own_fd(file), error))?;
        Ok(Some(copy.into()))
    }

    /// The path by which a process opens the unlinked file `id`, which is made and filled the first time.
    pub(crate) fn ghost_link(&mut self, image: &Image, id: GhostId) -> RestoreResult<Vec<u8>> {
        if let Some(file) = self.ghosts.get(&id) {
            return Ok(link(file));
        }
        let ghost = record(image, |ghost: &GhostV1| ghost.id == id, "unlinked file")?;
        let file = make_ghost(&ghost)?;
        resize(&file, ghost.size)?;
        fill(image, &MemoryFile::new(&file)?, &own_fd(&file), Space::Ghost(id), ghost.size)?;
        set_owner(&file, ghost.owner, ghost.mode)?;
        nameless::set_times(image, id, &file)?;
        // A file that is open for writing cannot be run.
        let own = own_fd(&file);
        let file = File::open(&own).map_err(|error| SysError::new("open", own, error))?;
        let path = link(&file);
        self.ghosts.insert(id, file);
        Ok(path)
    }

    /// Adds the seals that had to wait for mappings and descriptors: to be called when all of them are there.
    pub(crate) fn finish_seals(&mut self) -> RestoreResult<()> {
        for (id, seals) in std::mem::take(&mut self.late_seals) {
            add_seals(&self.shmems[&id], seals)?;
        }
        Ok(())
    }
}

/// Shared anonymous memory: only mmap(2) makes it.
fn make_anonymous(size: u64, page_size: u64) -> RestoreResult<File> {
    let page = page_size.max(PAGE);
    match memory::shared_anonymous(size.next_multiple_of(page).max(page), page_size) {
        Ok(file) => Ok(file),
        // Without CAP_CHECKPOINT_RESTORE it becomes a memfd: the program cannot tell.
        Err(error) if matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES)) => {
            make_memfd(b"shared", page_size)
        }
        Err(error) => Err(error.into()),
    }
}

/// The record of memory object `id`.
pub(crate) fn memory_object(image: &Image, id: ShmemId) -> RestoreResult<ShmemV1> {
    record(image, |shmem: &ShmemV1| shmem.id == id, "memory object")
}

fn record<T: ckpt_image::record::Record>(
    image: &Image,
    wanted: impl Fn(&T) -> bool,
    what: &str,
) -> RestoreResult<T> {
    let missing =
        || RestoreError::Inconsistent { what: format!("a {what} that is referred to is not in it") };
    image.records::<T>()?.into_iter().find(wanted).ok_or_else(missing)
}

fn own_fd(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn link(file: &File) -> Vec<u8> {
    own_fd(file).into_bytes()
}

fn make_memfd(name: &[u8], page_size: u64) -> RestoreResult<File> {
    let object = || format!("memfd {}", String::from_utf8_lossy(name));
    let c_name = CString::new(name).map_err(|_| RestoreError::Inconsistent { what: object() })?;
    let huge = if page_size == 0 { MFdFlags::empty() } else { MFdFlags::MFD_HUGETLB };
    let huge = huge | MFdFlags::from_bits_retain(huge_pages::size_flags(page_size));
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | huge;
    let fd = memfd_create(c_name.as_c_str(), flags)
        .map_err(|errno| SysError::new("memfd_create", object(), errno))?;
    Ok(fd.into())
}

/// A file that has the name of the old one for a moment; if another has that name now, or the directory is gone, one without any name.
fn make_ghost(ghost: &GhostV1) -> RestoreResult<File> {
    let path = Path::new(OsStr::from_bytes(&ghost.path));
    if let Ok(place) = canonical::place(&ghost.path) {
        if let Ok(file) = place.open(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600) {
            place.remove().map_err(|errno| SysError::new("unlink", path.display().to_string(), errno))?;
            return Ok(file.into());
        }
        let directory = Place { name: ".".into(), ..place };
        if let Ok(file) = directory.open(libc::O_RDWR | libc::O_TMPFILE, 0o600) {
            return Ok(file.into());
        }
    }
    tracing::warn!(path = %path.display(), "the unlinked file cannot be made again in its directory: it becomes memory");
    let name = path.file_name().map_or(&b"file"[..], OsStr::as_bytes);
    make_memfd(&name[..name.len().min(200)], 0)
}

fn resize(file: &File, size: u64) -> RestoreResult<()> {
    file.set_len(size).map_err(|error| SysError::new("ftruncate", own_fd(file), error).into())
}

/// Writes the pages of an object that is all zeros.
pub(crate) fn fill(
    image: &Image,
    file: &impl FileExt,
    name: &str,
    space: Space,
    size: u64,
) -> RestoreResult<()> {
    let error = |error| RestoreError::from(SysError::new("write", name, error));
    image.for_each_run::<RestoreError>(space, 0..size.div_ceil(PAGE), &mut |page, bytes| {
        // The last page may be cut short by the end.
        let start = page * PAGE;
        let len = usize::try_from(size.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
        file.write_all_at(&bytes[..len], start).map_err(error)
    })
}

fn set_owner(file: &File, owner: (u32, u32), mode: u32) -> RestoreResult<()> {
    if let Err(error) = std::os::unix::fs::fchown(file, Some(owner.0), Some(owner.1)) {
        tracing::warn!(?owner, %error, "an unnamed file keeps our owner");
    }
    file.set_permissions(Permissions::from_mode(mode & 0o7777))
        .map_err(|error| SysError::new("fchmod", own_fd(file), error).into())
}

fn add_seals(file: &File, seals: u32) -> RestoreResult<()> {
    // SAFETY: no pointers.
    if seals != 0 && unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == -1 {
        return Err(SysError::last("fcntl(F_ADD_SEALS)", own_fd(file)).into());
    }
    Ok(())
}
