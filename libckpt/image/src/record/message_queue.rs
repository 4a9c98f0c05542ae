use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A System V message queue.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MessageQueueV1 {
    /// Its id.
    pub id: i32,
    /// Key; 0 is IPC_PRIVATE.
    pub key: i32,
    /// Permission bits.
    pub mode: u32,
    /// Owner: user and group id.
    pub owner: (u32, u32),
    /// Bytes that it may hold (`msg_qbytes`).
    pub most_bytes: u64,
    /// What waits in it, the oldest first: type and text.
    pub messages: Vec<(i64, Vec<u8>)>,
}
