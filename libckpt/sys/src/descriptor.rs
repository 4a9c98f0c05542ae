//! What fcntl(2), ioctl(2) and their kin tell of a descriptor, and set on it.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// TFD_IOC_SET_TICKS, `_IOW('T', 0, __u64)`.
const TFD_IOC_SET_TICKS: libc::Ioctl = 0x4008_5400;
/// INOTIFY_IOC_SETNEXTWD, `_IOW('I', 0, __s32)`.
const INOTIFY_IOC_SETNEXTWD: libc::Ioctl = 0x4004_4900;

fn object(fd: BorrowedFd<'_>) -> String {
    format!("fd {}", fd.as_raw_fd())
}

fn check(call: &'static str, fd: BorrowedFd<'_>, value: i32) -> SysResult<i32> {
    if value < 0 { Err(SysError::last(call, object(fd))) } else { Ok(value) }
}

/// `struct f_owner_ex`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// F_OWNER_TID 0, F_OWNER_PID 1, F_OWNER_PGRP 2.
    pub kind: i32,
    /// Its id; 0 when there is none.
    pub id: i32,
}

/// F_OWNER_PID: [`Owner::id`] is a process.
pub const OWNER_PROCESS: i32 = 1;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;

/// Makes this process's table large enough for `count` descriptors above that of `fd`. A table that grows while threads share it waits until none of
/// them can be looking at the old one (`expand_fdtable` in the kernel), some milliseconds each time. If it cannot be, it grows when it must.
pub fn make_room(fd: BorrowedFd<'_>, count: usize) {
    let highest = i32::try_from(count).unwrap_or(i32::MAX).saturating_add(fd.as_raw_fd());
    // SAFETY: no pointers; the new descriptor is nobody else's.
    let made = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest) };
    if made >= 0 {
        // SAFETY: as above.
        drop(unsafe { OwnedFd::from_raw_fd(made) });
    }
}

/// Who gets the signals of O_ASYNC.
pub fn owner(fd: BorrowedFd<'_>) -> SysResult<Owner> {
    let mut owner = Owner::default();
    // SAFETY: `owner` is laid out as the kernel's structure.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWN_EX, &raw mut owner) };
    check("fcntl(F_GETOWN_EX)", fd, outcome).map(|_| owner)
}

/// Sets who gets the signals of O_ASYNC.
pub fn set_owner(fd: BorrowedFd<'_>, owner: Owner) -> SysResult<()> {
    // SAFETY: `owner` is laid out as the kernel's structure.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETOWN_EX, &raw const owner) };
    check("fcntl(F_SETOWN_EX)", fd, outcome).map(drop)
}

/// Who gets the signals of O_ASYNC, and which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileOwner {
    /// Who.
    pub owner: Owner,
    /// The signal; 0 is SIGIO.
    pub signal: i32,
}

/// Who gets the signals of O_ASYNC, and which.
pub fn file_owner(fd: BorrowedFd<'_>) -> SysResult<FileOwner> {
    Ok(FileOwner { owner: owner(fd)?, signal: owner_signal(fd)? })
}

/// The signal of O_ASYNC; 0 is SIGIO.
pub fn owner_signal(fd: BorrowedFd<'_>) -> SysResult<i32> {
    // SAFETY: no pointers.
    check("fcntl(F_GETSIG)", fd, unsafe { libc::fcntl(fd.as_raw_fd(), F_GETSIG) })
}

/// Sets the signal of O_ASYNC.
pub fn set_owner_signal(fd: BorrowedFd<'_>, signal: i32) -> SysResult<()> {
    // SAFETY: no pointers.
    check("fcntl(F_SETSIG)", fd, unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, signal) }).map(drop)
}

/// Sets the status flags.
pub fn set_flags(fd: BorrowedFd<'_>, flags: i32) -> SysResult<()> {
    // SAFETY: no pointers.
    check("fcntl(F_SETFL)", fd, unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// Bytes that a pipe holds at most.
pub fn pipe_capacity(fd: BorrowedFd<'_>) -> SysResult<u32> {
    // SAFETY: no pointers.
    let bytes = check("fcntl(F_GETPIPE_SZ)", fd, unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
    Ok(bytes.unsigned_abs())
}

/// Sets the bytes that a pipe holds at most.
pub fn set_pipe_capacity(fd: BorrowedFd<'_>, bytes: u32) -> SysResult<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    // SAFETY: no pointers.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    check("fcntl(F_SETPIPE_SZ)", fd, outcome).map(drop)
}

/// Bytes that wait to be read (FIONREAD).
pub fn readable_bytes(fd: BorrowedFd<'_>) -> SysResult<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` is an int, as FIONREAD takes it.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    check("ioctl(FIONREAD)", fd, outcome).map(|_| bytes.unsigned_abs())
}

/// Bytes of sent data that the kernel still holds for a socket (SIOCOUTQ).
pub fn unsent_bytes(fd: BorrowedFd<'_>) -> SysResult<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` is an int, as SIOCOUTQ takes it.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    check("ioctl(SIOCOUTQ)", fd, outcome).map(|_| bytes.unsigned_abs())
}

/// Bytes that a TCP connection has not sent even once (SIOCOUTQNSD).
pub fn never_sent_bytes(fd: BorrowedFd<'_>) -> SysResult<u32> {
    const SIOCOUTQNSD: libc::Ioctl = 0x894b;
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` is an int, as SIOCOUTQNSD takes it.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCOUTQNSD, &raw mut bytes) };
    check("ioctl(SIOCOUTQNSD)", fd, outcome).map(|_| bytes.unsigned_abs())
}

/// Copies what is in pipe `from` to pipe `to` and takes nothing away (tee(2)); the number of bytes.
pub fn tee(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max: usize) -> SysResult<usize> {
    // SAFETY: no pointers.
    let copied = unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), max, libc::SPLICE_F_NONBLOCK) };
    match usize::try_from(copied) {
        Ok(copied) => Ok(copied),
        Err(_) if Errno::last() == Errno::EAGAIN => Ok(0),
        Err(_) => Err(SysError::last("tee", object(from))),
    }
}

/// Sets the number of expirations that a timerfd has to tell.
pub fn set_timer_ticks(fd: BorrowedFd<'_>, ticks: u64) -> SysResult<()> {
    // SAFETY: the argument is a u64, as the kernel takes it.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), TFD_IOC_SET_TICKS, &raw const ticks) };
    check("ioctl(TFD_IOC_SET_TICKS)", fd, outcome).map(drop)
}

/// Sets the number of the next watch of an inotify instance.
pub fn set_next_watch(fd: BorrowedFd<'_>, wd: i32) -> SysResult<()> {
    // SAFETY: the argument is passed by value.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), INOTIFY_IOC_SETNEXTWD, wd) };
    check("ioctl(INOTIFY_IOC_SETNEXTWD)", fd, outcome).map(drop)
}

/// A new inotify instance, close-on-exec.
pub fn new_inotify() -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    if fd < 0 {
        return Err(SysError::last("inotify_init1", "a new instance"));
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds a watch; its number.
pub fn add_watch(inotify: BorrowedFd<'_>, path: &[u8], mask: u32) -> Result<i32, Errno> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `path` is a C string.
    let wd = unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) };
    if wd < 0 { Err(Errno::last()) } else { Ok(wd) }
}

/// Removes a watch.
pub fn remove_watch(inotify: BorrowedFd<'_>, wd: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    let outcome = unsafe { libc::inotify_rm_watch(inotify.as_raw_fd(), wd) };
    if outcome < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; 128],
}

/// Opens, as O_PATH, the file with this handle in the file system that `mount` belongs to (open_by_handle_at(2)).
pub fn open_by_handle(mount: BorrowedFd<'_>, kind: i32, handle: &[u8]) -> SysResult<OwnedFd> {
    let mut all = Handle { bytes: u32::try_from(handle.len()).unwrap_or(u32::MAX), kind, handle: [0; 128] };
    let Some(room) = all.handle.get_mut(..handle.len()) else {
        return Err(SysError::new("open_by_handle_at", object(mount), Errno::EOVERFLOW));
    };
    room.copy_from_slice(handle);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `all` is laid out as the kernel's structure and says how long its handle is.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut all, flags) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just returned this descriptor to us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::last("open_by_handle_at", object(mount))),
    }
}

/// Type and bytes of a file's handle (name_to_handle_at(2)).
pub fn handle(fd: BorrowedFd<'_>) -> SysResult<(i32, Vec<u8>)> {
    let mut all = Handle { bytes: 128, kind: 0, handle: [0; 128] };
    let mut mount = 0i32;
    let (at, empty) = (fd.as_raw_fd(), c"".as_ptr());
    let (into, mount) = (&raw mut all, &raw mut mount);
    // SAFETY: `all` is laid out as the kernel's structure and says how long its room is; the path is a C string.
    let outcome =
        unsafe { libc::syscall(libc::SYS_name_to_handle_at, at, empty, into, mount, libc::AT_EMPTY_PATH) };
    if outcome < 0 {
        return Err(SysError::last("name_to_handle_at", object(fd)));
    }
    let len = usize::try_from(all.bytes).unwrap_or(0).min(all.handle.len());
    Ok((all.kind, all.handle[..len].to_vec()))
}

/// open(2) with flags as they are, O_CLOEXEC added.
pub fn open(path: &[u8], flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `path` is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A duplicate of our descriptor of this number, from 3 upwards, close-on-exec; EBADF if there is none.
pub fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: the kernel has just returned this descriptor to us.
    Errno::result(copy).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Our soft limit of open descriptors, raised to the hard one while this lives.
#[derive(Debug)]
pub struct RaisedLimit {
    before: Option<libc::rlimit>,
}

impl RaisedLimit {
    /// Raises it.
    #[must_use]
    pub fn new() -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `before` is an rlimit.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) } != 0 {
            return Self { before: None };
        }
        let raised = libc::rlimit { rlim_cur: before.rlim_max, ..before };
        // SAFETY: `raised` is an rlimit.
        let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0;
        Self { before: done.then_some(before) }
    }

    /// How many descriptors this process may have now.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.before.map_or(0, |before| before.rlim_max)
    }
}

impl Default for RaisedLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for RaisedLimit {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: `before` is an rlimit.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const before) };
        }
    }
}
