use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// What a socket of TCP or UDP has beside what every socket has.
#[derive(Debug, Clone, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct InternetV1 {
    /// Datagrams that were not read yet, oldest first (UDP).
    pub datagrams: Vec<InternetDatagramV1>,
    /// Multicast groups that it has joined.
    pub memberships: Vec<MembershipV1>,
    /// Connections that waited to be accepted from a listener and are not in the image.
    pub waiting: u32,
    /// It is bound to an address that the machine did not have (IP_FREEBIND).
    pub freely_bound: bool,
}

/// A datagram as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct InternetDatagramV1 {
    /// Bytes.
    pub data: Vec<u8>,
    /// `sockaddr` of the sender.
    pub from: Vec<u8>,
    /// The address that it was sent to, 4 or 16 bytes; None: the socket does not ask for it (IP_PKTINFO, IPV6_RECVPKTINFO).
    pub to: Option<Vec<u8>>,
    /// Time to live or hop limit; None: the socket does not ask for it.
    pub hop_limit: Option<u8>,
    /// Type of service or traffic class; None: the socket does not ask for it.
    pub traffic_class: Option<u8>,
}

/// A multicast group that a socket has joined on an interface.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct MembershipV1 {
    /// Name of the interface.
    pub interface: Vec<u8>,
    /// Address of the group, 4 or 16 bytes.
    pub group: Vec<u8>,
    /// Whether `sources` are those that are not wanted (MCAST_EXCLUDE), not those that are (MCAST_INCLUDE).
    pub exclude: bool,
    /// Addresses, 4 or 16 bytes.
    pub sources: Vec<Vec<u8>>,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TcpConnectionV1 {
    /// TCP_ESTABLISHED and so on, of the kernel's include/net/tcp_states.h.
    pub state: u8,
    /// `sockaddr` of the other side.
    pub peer: Vec<u8>,
    /// Where the other side is.
    pub far_end: FarEndV1,
    /// Sequence number of the first byte of `sent`.
    pub send_seq: u32,
    /// What was written and is not acknowledged, oldest first.
    pub sent: Vec<u8>,
    /// How much at the end of `sent` has never been sent, bytes.
    pub unsent: u32,
    /// Sequence number of the first byte of `received`.
    pub receive_seq: u32,
    /// What has arrived and was not read.
    pub received: Vec<u8>,
    /// Largest segment that the other side takes, bytes.
    pub mss: u32,
    /// Window scales, sending and receiving; None: not agreed on.
    pub window_scale: Option<(u8, u8)>,
    /// Selective acknowledgements were agreed on.
    pub sack: bool,
    /// Time stamp at the checkpoint; None: not agreed on.
    pub timestamp: Option<u32>,
    /// `struct tcp_repair_window`: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup.
    pub window: [u32; 5],
}

/// Where the other side of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum FarEndV1 {
    /// In the job.
    Job {
        /// Inode of its socket.
        inode: u64,
    },
    /// In the job, accepted by nobody yet: it waits at a listener.
    Waiting {
        /// The listener's inode.
        listener_inode: u64,
    },
    /// Outside, and it has been kept waiting since the checkpoint: nothing was taken from it, and it was told nothing.
    Held,
    /// Outside, and the connection went on after the checkpoint.
    Lost,
}
