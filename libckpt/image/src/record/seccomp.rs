use super::SeccompFilterId;
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// Which system calls a thread may make (seccomp(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum SeccompV1 {
    /// All.
    #[default]
    Disabled,
    /// read, write, exit and rt_sigreturn (SECCOMP_SET_MODE_STRICT).
    Strict,
    /// What this filter, the newest, and those before it allow.
    Filter(SeccompFilterId),
}

/// One filter of a chain that threads share as far as it is the same.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SeccompFilterV1 {
    /// Id.
    pub id: SeccompFilterId,
    /// The filter that was there when this one was added.
    pub previous: Option<SeccompFilterId>,
    /// SECCOMP_FILTER_FLAG_LOG.
    pub log: bool,
    /// `struct sock_filter` each, as a little-endian number: code (16 bits), jt (8), jf (8), k (32).
    pub program: Vec<u64>,
}
