use super::FsId;
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// Working directory, root directory, umask.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FsV1 {
    /// Its id.
    pub id: FsId,
    /// Path of the working directory.
    pub cwd: Vec<u8>,
    /// Path of the root directory.
    pub root: Vec<u8>,
    /// umask(2).
    pub umask: u32,
}
