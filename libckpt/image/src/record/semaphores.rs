use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A set of System V semaphores.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SemaphoresV1 {
    /// Its id.
    pub id: i32,
    /// Key; 0 is IPC_PRIVATE.
    pub key: i32,
    /// Permission bits.
    pub mode: u32,
    /// Owner: user and group id.
    pub owner: (u32, u32),
    /// The semaphores' values.
    pub values: Vec<u16>,
}
