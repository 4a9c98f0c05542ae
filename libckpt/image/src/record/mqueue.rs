use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A descriptor of a POSIX message queue. All with one inode are of one queue.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MqueueV1 {
    /// Inode of the queue.
    pub inode: u64,
    /// Its name without the slash before it.
    pub name: Vec<u8>,
    /// The name has been taken away (mq_unlink(3)).
    pub unlinked: bool,
    /// Permission bits.
    pub mode: u32,
    /// Owner: user and group id.
    pub owner: (u32, u32),
    /// Messages that it may hold.
    pub most_messages: u64,
    /// Bytes that a message may have.
    pub message_bytes: u64,
    /// What is in it, in the order in which it would be received: priority and text. On one descriptor of each queue only, empty on the others.
    pub messages: Vec<(u32, Vec<u8>)>,
}
