//! System V shared memory: shmget(2), shmctl(2), shmat(2).
use crate::error::{SysError, SysResult};
use crate::huge_pages;
use std::io;
use std::os::unix::fs::FileExt;

pub use crate::sysv::is_missing;

/// SHM_DEST of the mode: the segment goes with its last attachment.
pub const SHM_DEST: u32 = 0o1000;
/// The sysctl that chooses the id of the next segment.
const NEXT_ID: &str = "/proc/sys/kernel/shm_next_id";

/// What IPC_STAT tells of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Key; 0 is IPC_PRIVATE.
    pub key: i32,
    /// Bytes.
    pub size: u64,
    /// Permission bits and SHM_DEST.
    pub mode: u32,
    /// Owner: user and group id.
    pub owner: (u32, u32),
    /// Attachments.
    pub attached: u64,
}

fn failed(call: &'static str, id: i32) -> SysError {
    SysError::last(call, format!("segment {id}"))
}

fn status(id: i32) -> Result<libc::shmid_ds, SysError> {
    // SAFETY: all zeros is a valid value.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is ours and valid for writing.
    if unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut status) } == -1 {
        return Err(failed("shmctl(IPC_STAT)", id));
    }
    Ok(status)
}

/// Segment `id` of our IPC namespace.
pub fn stat(id: i32) -> SysResult<Segment> {
    let status = status(id)?;
    Ok(Segment {
        key: status.shm_perm.__key,
        size: u64::try_from(status.shm_segsz).unwrap_or(u64::MAX),
        mode: u32::from(status.shm_perm.mode),
        owner: (status.shm_perm.uid, status.shm_perm.gid),
        attached: status.shm_nattch,
    })
}

/// Makes a segment with id `id`, of huge pages if `page_size` is not 0. EEXIST: the key is another's; the result is another id when `id` is taken.
pub fn create(id: i32, segment: &Segment, page_size: u64) -> SysResult<i32> {
    let choose = |error| SysError::new("write", NEXT_ID, error);
    std::fs::write(NEXT_ID, id.to_string()).map_err(choose)?;
    let size = usize::try_from(segment.size).unwrap_or(usize::MAX);
    let huge = if page_size == 0 { 0 } else { libc::SHM_HUGETLB };
    let huge = huge | huge_pages::size_flags(page_size).cast_signed();
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | huge | (segment.mode & 0o777).cast_signed();
    // SAFETY: no pointers.
    let made = unsafe { libc::shmget(segment.key, size, flags) };
    if made != -1 {
        return Ok(made);
    }
    let error = failed("shmget", id);
    // A choice that was not used up would be the next one's.
    // SAFETY: no pointers.
    let used = unsafe { libc::shmget(libc::IPC_PRIVATE, 1, libc::IPC_CREAT) };
    if used != -1 {
        remove(used)?;
    }
    Err(error)
}

/// Sets owner and permission bits.
pub fn set(id: i32, segment: &Segment) -> SysResult<()> {
    let mut status = status(id)?;
    (status.shm_perm.uid, status.shm_perm.gid) = segment.owner;
    status.shm_perm.mode = u16::try_from(segment.mode & 0o777).unwrap_or(0);
    // SAFETY: `status` is ours and valid for reading.
    if unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut status) } == -1 {
        return Err(failed("shmctl(IPC_SET)", id));
    }
    Ok(())
}

/// Marks a segment to go with its last attachment.
pub fn remove(id: i32) -> SysResult<()> {
    // SAFETY: IPC_RMID reads no structure.
    if unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) } == -1 {
        return Err(failed("shmctl(IPC_RMID)", id));
    }
    Ok(())
}

/// A segment that is attached to this process.
#[derive(Debug)]
pub struct Attached {
    id: i32,
    at: *mut u8,
    bytes: usize,
}

impl Attached {
    /// Attaches segment `id`, whose pages have `page_size` bytes, for reading and writing.
    pub fn new(id: i32, page_size: u64) -> SysResult<Self> {
        let bytes = stat(id)?.size.next_multiple_of(page_size);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        // SAFETY: the kernel chooses a free place.
        let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        if at.addr() == usize::MAX {
            return Err(failed("shmat", id));
        }
        Ok(Self { id, at: at.cast(), bytes })
    }

    /// Gives all of its pages back: it is all zeros.
    pub fn clear(&self) -> SysResult<()> {
        // SAFETY: the range is what is attached, of which nobody holds a reference.
        match unsafe { libc::madvise(self.at.cast(), self.bytes, libc::MADV_REMOVE) } {
            0 => Ok(()),
            _ => Err(failed("madvise(MADV_REMOVE)", self.id)),
        }
    }

    /// The place of `length` bytes at `offset`, as far as it has so many.
    fn place(&self, length: usize, offset: u64) -> (*mut u8, usize) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes);
        // SAFETY: within what is attached, or just behind its end.
        (unsafe { self.at.add(offset) }, length.min(self.bytes - offset))
    }
}

impl FileExt for Attached {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (at, length) = self.place(buffer.len(), offset);
        // SAFETY: `at` has `length` bytes, and `buffer` is memory of our own that the segment is not.
        unsafe { std::ptr::copy_nonoverlapping(at, buffer.as_mut_ptr(), length) };
        Ok(length)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let (at, length) = self.place(buffer.len(), offset);
        // SAFETY: as for reading; nobody holds a reference to what is attached.
        unsafe { std::ptr::copy_nonoverlapping(buffer.as_ptr(), at, length) };
        Ok(length)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: it was attached there, and no reference to it is left.
        unsafe { libc::shmdt(self.at.cast()) };
    }
}
