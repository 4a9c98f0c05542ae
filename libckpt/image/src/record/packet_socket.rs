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
