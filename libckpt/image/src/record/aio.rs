use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// The ring of an asynchronous I/O context (io_setup(2)), which is a mapping: its first address is the context's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct AioRingV1 {
    /// Events that it has room for.
    pub capacity: u32,
    /// Number of the first event that was not read yet, below `capacity`.
    pub head: u32,
    /// Number of the next event to come, below `capacity`.
    pub tail: u32,
    /// The events from `head` to `tail`: `struct io_event` each, 32 bytes.
    pub events: Vec<u8>,
}
