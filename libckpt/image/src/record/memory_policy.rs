use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// From which NUMA nodes a process takes its memory, if it has said so (set_mempolicy(2), mbind(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MemoryPolicyV1 {
    /// The process.
    pub pid: i32,
    /// Its threads that have a policy.
    pub threads: Vec<(i32, PolicyV1)>,
    /// The mappings of its address space that have a policy: first byte, first byte after. None when its address space is another process's, whose record
    /// has them.
    pub mappings: Vec<(u64, u64, PolicyV1)>,
}

/// A NUMA memory policy.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct PolicyV1 {
    /// MPOL_*, with MPOL_F_* flags.
    pub mode: u32,
    /// The nodes, rising.
    pub nodes: Vec<u32>,
}
