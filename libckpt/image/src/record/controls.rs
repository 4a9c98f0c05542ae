use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// What prctl(2) set for a process and its threads that no other record holds.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct ControlsV1 {
    /// The process.
    pub pid: i32,
    /// PR_GET_MDWE, PR_MDWE_*; 0 when its address space is another process's, whose record has it.
    pub mdwe: u32,
    /// PR_GET_MEMORY_MERGE: same-page merging of all its memory; false as above.
    pub memory_merge: bool,
    /// Its threads.
    pub threads: Vec<ThreadControlsV1>,
}

/// The same for one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct ThreadControlsV1 {
    /// Thread id.
    pub tid: i32,
    /// PR_GET_TSC: PR_TSC_*; 0 when the kernel does not tell.
    pub tsc: u32,
    /// PR_GET_IO_FLUSHER.
    pub io_flusher: bool,
    /// PR_SPEC_ENABLE, PR_SPEC_DISABLE or PR_SPEC_FORCE_DISABLE by PR_SPEC_* (store bypass, indirect branch); 0 where the thread has no say.
    pub speculation: [u32; 2],
}
