use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A thread's credentials.
#[derive(Debug, Clone, Default, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct CredsV1 {
    /// Real, effective, saved, file-system user id.
    pub uid: [u32; 4],
    /// Real, effective, saved, file-system group id.
    pub gid: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capability sets as bit masks.
    pub cap_inheritable: u64,
    /// Permitted.
    pub cap_permitted: u64,
    /// Effective.
    pub cap_effective: u64,
    /// Bounding.
    pub cap_bounding: u64,
    /// Ambient.
    pub cap_ambient: u64,
    /// PR_GET_SECUREBITS, keep-caps bit included.
    pub securebits: u32,
    /// PR_GET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
}
