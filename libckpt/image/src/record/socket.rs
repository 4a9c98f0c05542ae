use super::{FileIdent, InternetV1, OpenFileId, PacketSocketV1, TcpConnectionV1};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A socket: AF_UNIX of every type, TCP, UDP, raw and ping sockets, netlink, AF_PACKET.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SocketV1 {
    /// AF_*.
    pub domain: i32,
    /// SOCK_*.
    pub kind: i32,
    /// IPPROTO_*.
    pub protocol: i32,
    /// Inode, which names it among the job's sockets.
    pub inode: u64,
    /// `sockaddr` that it is bound to, as getsockname(2) gives it; empty when unbound.
    pub local: Vec<u8>,
    /// State.
    pub state: SocketStateV1,
    /// Owner of the socket's inode: user and group id.
    pub owner: (u32, u32),
    /// setsockopt(2): level, name, value. Of SO_ATTACH_FILTER: the `struct sock_filter`s.
    pub options: Vec<(i32, i32, Vec<u8>)>,
    /// SHUT_* that were done: bit 0 reading, bit 1 writing.
    pub shutdown: u32,
    /// What waits to be read.
    pub queue: Vec<DatagramV1>,
    /// The socket file that it is bound to, when there still is one (AF_UNIX).
    pub bound_file: Option<SocketFileV1>,
    /// What only TCP and UDP have.
    pub internet: InternetV1,
}

/// A file that an AF_UNIX socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SocketFileV1 {
    /// Its path. [`SocketV1::local`] has the one that bind(2) was given, which may be relative.
    pub path: Vec<u8>,
    /// The directory to which a relative name in [`SocketV1::local`] refers; empty when the name is absolute, or does not lead there any more.
    pub directory: Vec<u8>,
    /// Identity.
    pub ident: FileIdent,
    /// User and group id.
    pub owner: (u32, u32),
}

/// What a socket does.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum SocketStateV1 {
    /// Neither listens nor is connected.
    Unconnected,
    /// Listens.
    Listening {
        /// Backlog.
        backlog: u32,
    },
    /// Connected within the job.
    Connected {
        /// The peer's inode.
        peer_inode: u64,
        /// SO_PEERCRED: pid, uid, gid.
        peer_creds: (i32, u32, u32),
    },
    /// It was connected, and its peer is gone.
    PeerClosed {
        /// The peer had not read everything when it closed: ECONNRESET waits to be told.
        reset: bool,
    },
    /// Connected to an address (datagram sockets).
    ConnectedTo {
        /// `sockaddr`.
        address: Vec<u8>,
    },
    /// Connected (AF_UNIX) to a listener of the job that has not accepted it yet.
    InBacklog {
        /// The listener's inode.
        listener_inode: u64,
    },
    /// A TCP connection.
    Tcp(TcpConnectionV1),
    /// A socket of AF_PACKET.
    Packet(PacketSocketV1),
    /// Connected (AF_UNIX, datagrams) to a socket of the job that is not connected back, itself maybe.
    ConnectedWithin {
        /// The peer's inode.
        peer_inode: u64,
    },
}

/// A message or a run of bytes in a socket's queue.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct DatagramV1 {
    /// Bytes.
    pub data: Vec<u8>,
    /// `sockaddr` of the sender; empty when it had none.
    pub from: Vec<u8>,
    /// Descriptors under way in it (SCM_RIGHTS).
    pub files: Vec<OpenFileId>,
    /// SCM_CREDENTIALS: pid, uid, gid.
    pub creds: Option<(i32, u32, u32)>,
}
