//! seccomp(2): the filters of system calls that a thread is under.
use crate::error::{SysError, SysResult};
use crate::ptrace::call;
use nix::errno::Errno;

const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;
const PTRACE_SECCOMP_GET_METADATA: u32 = 0x420d;
/// BPF_MAXINSNS.
const PROGRAM_MAX: usize = 4096;

/// SECCOMP_SET_MODE_STRICT.
pub const SET_MODE_STRICT: u64 = 0;
/// SECCOMP_SET_MODE_FILTER.
pub const SET_MODE_FILTER: u64 = 1;
/// SECCOMP_FILTER_FLAG_TSYNC: for all threads of the process.
pub const FILTER_TSYNC: u64 = 1;
/// SECCOMP_FILTER_FLAG_LOG.
pub const FILTER_LOG: u64 = 2;

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// SECCOMP_FILTER_FLAG_LOG.
    pub log: bool,
    /// `struct sock_filter` each, as a little-endian number: code (16 bits), jt (8), jf (8), k (32).
    pub program: Vec<u64>,
}

#[repr(C)]
struct Metadata {
    index: u64,
    flags: u64,
}

/// The filter number `index` of a stopped thread in filter mode, 0 being the oldest; None: it has no more. For a tracer with CAP_SYS_ADMIN that has no
/// filters itself.
pub fn filter(tid: i32, index: usize) -> SysResult<Option<Filter>> {
    let name = "ptrace(PTRACE_SECCOMP_GET_FILTER)";
    let mut program = vec![0u64; PROGRAM_MAX];
    let at = program.as_mut_ptr().expose_provenance();
    let len = match call(PTRACE_SECCOMP_GET_FILTER, name, tid, index, at) {
        Ok(len) => usize::try_from(len).unwrap_or(0),
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    program.truncate(len);
    for word in &mut program {
        *word = u64::from_le(*word);
    }
    let mut metadata = Metadata { index: u64::try_from(index).unwrap_or(u64::MAX), flags: 0 };
    let at = (&raw mut metadata).expose_provenance();
    let name = "ptrace(PTRACE_SECCOMP_GET_METADATA)";
    call(PTRACE_SECCOMP_GET_METADATA, name, tid, size_of::<Metadata>(), at)?;
    Ok(Some(Filter { log: metadata.flags & FILTER_LOG != 0, program }))
}

/// Whether this is the error of a kernel that keeps no filters to be read (CONFIG_CHECKPOINT_RESTORE), or of a tracer that may not.
#[must_use]
pub fn is_refusal(error: &SysError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::EIO | Errno::EMEDIUMTYPE)
    )
}
