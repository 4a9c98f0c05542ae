//! Raw system calls of our own process that libc has no function for.
use nix::errno::Errno;

/// Runs system call `nr` in this process.
///
/// # Safety
/// The arguments must be what the system call takes: pointers among them valid for what it reads and writes.
pub unsafe fn syscall(nr: i64, args: [u64; 6]) -> Result<u64, Errno> {
    // SAFETY: the caller answers for the arguments.
    let value = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if value == -1 { Err(Errno::last()) } else { Ok(value.cast_unsigned()) }
}
