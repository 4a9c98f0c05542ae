use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// What an AF_PACKET socket hears.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct PacketSocketV1 {
    /// ETH_P_*, in the network's byte order; 0: nothing.
    pub protocol: u16,
    /// Name of the interface; empty: all.
    pub interface: Vec<u8>,
    /// What it asks interfaces for beyond packets to this machine.
    pub memberships: Vec<PacketMembershipV1>,
    /// PACKET_FANOUT, as getsockopt(2) has it; 0: it is in no group.
    pub fanout: u32,
    /// The ring that packets come in through (PACKET_RX_RING).
    pub receive_ring: Option<PacketRingV1>,
    /// The ring that packets go out through (PACKET_TX_RING); in memory it is behind the other.
    pub send_ring: Option<PacketRingV1>,
}

/// A ring in memory of an AF_PACKET socket.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct PacketRingV1 {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Frames.
    pub frames: u32,
    /// After how many milliseconds a block that is not full is handed over (version 3).
    pub retire_ms: u32,
    /// Bytes at the beginning of each block that are the program's (version 3).
    pub private: u32,
    /// TP_FT_REQ_* (version 3).
    pub features: u32,
    /// The frame at which the kernel goes on; of a ring of version 3, the block.
    pub next: u32,
    /// What is in it.
    pub memory: Vec<u8>,
}

/// Packets that a socket asks an interface for.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct PacketMembershipV1 {
    /// Name of the interface.
    pub interface: Vec<u8>,
    /// PACKET_MR_*.
    pub kind: u16,
    /// Address, as long as the interface's.
    pub address: Vec<u8>,
    /// Times that it was asked.
    pub count: u32,
}
