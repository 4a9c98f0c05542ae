use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A descriptor of /dev/net/tun.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TunV1 {
    /// Path of the device.
    pub path: Vec<u8>,
    /// The queue that it is of an interface; None: it has not been attached to one (TUNSETIFF).
    pub queue: Option<TunQueueV1>,
}

/// A queue of a TUN or TAP interface.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TunQueueV1 {
    /// IFF_* that it was attached with: TUN or TAP, NO_PI, VNET_HDR, MULTI_QUEUE, NAPI, NAPI_FRAGS.
    pub flags: u16,
    /// It is detached for the time (IFF_DETACH_QUEUE).
    pub detached: bool,
    /// Its interface; all queues of one say the same.
    pub interface: TunInterfaceV1,
}

/// A TUN or TAP interface, with what goes with it when it is taken away. Messages and attributes are rtnetlink's.
#[derive(Debug, Clone, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TunInterfaceV1 {
    /// Name.
    pub name: String,
    /// Number in its network namespace.
    pub index: u32,
    /// It stays when nobody has a queue of it (TUNSETPERSIST).
    pub persistent: bool,
    /// It is up.
    pub up: bool,
    /// User id of who else may attach to it.
    pub owner: Option<u32>,
    /// Group id of who else may attach to it.
    pub group: Option<u32>,
    /// TUN_F_*: what the program takes off the kernel's hands (TUNSETOFFLOAD).
    pub offloads: u32,
    /// Bytes of packets from a queue that may be under way (TUNSETSNDBUF).
    pub send_buffer: i32,
    /// Bytes of `struct virtio_net_hdr` before each packet (TUNSETVNETHDRSZ).
    pub header_size: i32,
    /// That is little-endian on any machine (TUNSETVNETLE).
    pub little_endian: bool,
    /// Name of the interface that it is a port of.
    pub master: Option<String>,
    /// Attributes: address, MTU, length of the queue, alias.
    pub attributes: Vec<u8>,
    /// Its addresses.
    pub addresses: Vec<Vec<u8>>,
    /// Its permanent neighbours.
    pub neighbours: Vec<Vec<u8>>,
    /// Routes through it that do not come from addresses.
    pub routes: Vec<Vec<u8>>,
    /// Its settings: paths below /proc/sys, and their values.
    pub sysctls: Vec<(String, String)>,
}
