//! Scheduling attributes of a thread: sched_getattr(2), sched_setaffinity(2), ioprio_get(2).
use crate::error::{SysError, SysResult};
use crate::raw::syscall;

/// `struct sched_attr`, its 56 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

const ATTR_SIZE: u32 = 56;
const _: () = assert!(size_of::<SchedAttr>() == 56);

fn word(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

fn pointer<T>(value: &mut T) -> u64 {
    u64::try_from(std::ptr::from_mut(value).expose_provenance()).unwrap_or(0)
}

fn object(tid: i32) -> String {
    format!("thread {tid}")
}

/// Reads the attributes of `tid`.
pub fn attributes(tid: i32) -> SysResult<SchedAttr> {
    let mut attr = SchedAttr::default();
    let args = [word(tid), pointer(&mut attr), u64::from(ATTR_SIZE), 0, 0, 0];
    // SAFETY: `attr` is valid for its size.
    unsafe { syscall(libc::SYS_sched_getattr, args) }
        .map_err(|errno| SysError::new("sched_getattr", object(tid), errno))?;
    Ok(attr)
}

/// Sets the attributes of `tid`.
pub fn set_attributes(tid: i32, attr: &SchedAttr) -> SysResult<()> {
    let mut attr = SchedAttr { size: ATTR_SIZE, ..*attr };
    // SAFETY: `attr` is valid for its size.
    unsafe { syscall(libc::SYS_sched_setattr, [word(tid), pointer(&mut attr), 0, 0, 0, 0]) }
        .map_err(|errno| SysError::new("sched_setattr", object(tid), errno))?;
    Ok(())
}

/// The CPUs that `tid` may run on: bit N of byte N/8.
pub fn affinity(tid: i32) -> SysResult<Vec<u8>> {
    let mut mask = [0u8; 1024];
    // SAFETY: `mask` is valid for its length.
    let got = unsafe { syscall(libc::SYS_sched_getaffinity, [word(tid), 1024, pointer(&mut mask), 0, 0, 0]) }
        .map_err(|errno| SysError::new("sched_getaffinity", object(tid), errno))?;
    Ok(mask[..usize::try_from(got).unwrap_or(0)].to_vec())
}

/// Sets the CPUs that `tid` may run on.
pub fn set_affinity(tid: i32, mask: &[u8]) -> SysResult<()> {
    let at = u64::try_from(mask.as_ptr().expose_provenance()).unwrap_or(0);
    let len = u64::try_from(mask.len()).unwrap_or(0);
    // SAFETY: `mask` is valid for its length.
    unsafe { syscall(libc::SYS_sched_setaffinity, [word(tid), len, at, 0, 0, 0]) }
        .map_err(|errno| SysError::new("sched_setaffinity", object(tid), errno))?;
    Ok(())
}

/// The CPU that this thread runs on.
#[must_use]
pub fn current_cpu() -> usize {
    // SAFETY: no pointers.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// What this thread is nicer than others, as of setpriority(2).
pub fn niceness() -> SysResult<i32> {
    // SAFETY: no pointers. The system call itself gives 20 less that value.
    unsafe { syscall(libc::SYS_getpriority, [u64::from(libc::PRIO_PROCESS), 0, 0, 0, 0, 0]) }
        .map(|value| 20 - i32::try_from(value).unwrap_or(20))
        .map_err(|errno| SysError::new("getpriority", "this thread", errno))
}

/// Sets it.
///
/// # Errors
/// EACCES: it may not be less nice than it is.
pub fn set_niceness(nice: i32) -> SysResult<()> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_setpriority, [u64::from(libc::PRIO_PROCESS), 0, word(nice), 0, 0, 0]) }
        .map(drop)
        .map_err(|errno| SysError::new("setpriority", "this thread", errno))
}

/// What [`set_session_niceness`] sets. None: the kernel has no such groups.
#[must_use]
pub fn session_niceness() -> Option<i32> {
    // "/autogroup-17 nice 0"
    let text = std::fs::read_to_string("/proc/self/autogroup").ok()?;
    text.rsplit_once("nice ")?.1.trim().parse().ok()
}

/// Sets what all processes of this one's session together are nicer than those of other sessions, where the kernel shares processors out by session
/// (`kernel.sched_autogroup_enabled`) and not by control group: there, what its threads are among themselves says nothing to others.
///
/// # Errors
/// ENOENT: the kernel has no such groups. EACCES, EPERM: it may not be less nice than it is. EAGAIN: it was set just before, without CAP_SYS_ADMIN.
pub fn set_session_niceness(nice: i32) -> SysResult<()> {
    let path = "/proc/self/autogroup";
    std::fs::write(path, nice.to_string()).map_err(|error| SysError::new("write", path, error))
}

/// The I/O priority of `tid`.
pub fn ioprio(tid: i32) -> SysResult<u32> {
    const WHO_PROCESS: u64 = 1;
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_ioprio_get, [WHO_PROCESS, word(tid), 0, 0, 0, 0]) }
        .map(|value| u32::try_from(value).unwrap_or(0))
        .map_err(|errno| SysError::new("ioprio_get", object(tid), errno))
}

/// Sets the I/O priority of `tid`.
pub fn set_ioprio(tid: i32, ioprio: u32) -> SysResult<()> {
    const WHO_PROCESS: u64 = 1;
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_ioprio_set, [WHO_PROCESS, word(tid), u64::from(ioprio), 0, 0, 0]) }
        .map_err(|errno| SysError::new("ioprio_set", object(tid), errno))?;
    Ok(())
}
