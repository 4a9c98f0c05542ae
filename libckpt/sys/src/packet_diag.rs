//! What the kernel tells of AF_PACKET sockets (sock_diag(7), packet_diag) beside their options.
use crate::error::SysResult;
use crate::packet_ring::Shape;
use crate::sock_diag::{dump, u16_at, u32_at};

/// PACKET_SHOW_INFO, MCLIST, RING_CFG, FANOUT.
const SHOW: u32 = 1 | 2 | 4 | 8;
const PACKET_DIAG_INFO: u16 = 0;
const PACKET_DIAG_MCLIST: u16 = 1;
const PACKET_DIAG_RX_RING: u16 = 2;
const PACKET_DIAG_TX_RING: u16 = 3;
const PACKET_DIAG_FANOUT: u16 = 4;
/// Bytes of `struct packet_diag_msg`.
const BODY: usize = 16;
/// Bytes of `struct packet_diag_mclist`.
const MEMBERSHIP: usize = 44;

/// One AF_PACKET socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacketSocket {
    /// ETH_P_*, as a number.
    pub protocol: u16,
    /// Index of the interface that it listens at; 0: all.
    pub interface: u32,
    /// Its memberships.
    pub memberships: Vec<Membership>,
    /// The ring that packets come in through.
    pub receive_ring: Option<Shape>,
    /// The ring that packets go out through; not told of version 3.
    pub send_ring: Option<Shape>,
    /// Its group (PACKET_FANOUT): id, and type in the upper half.
    pub fanout: Option<u32>,
}

/// Packets that a socket asks an interface for beyond those to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Index of the interface.
    pub index: u32,
    /// Times that it was asked.
    pub count: u32,
    /// PACKET_MR_*.
    pub kind: u16,
    /// Address.
    pub address: Vec<u8>,
}

/// The AF_PACKET socket with this inode, of our network namespace.
pub fn socket(inode: u64) -> SysResult<Option<PacketSocket>> {
    // struct packet_diag_req: family, protocol, pad, inode, show, cookie.
    let family = u8::try_from(libc::AF_PACKET).unwrap_or(0);
    let mut request = vec![family, 0, 0, 0];
    request.extend([0, SHOW, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()));
    let mut found = None;
    dump(&request, &mut |message| {
        if u32_at(message, 4).map(u64::from) == Some(inode) {
            found = parse(message);
        }
    })?;
    Ok(found)
}

fn parse(message: &[u8]) -> Option<PacketSocket> {
    let mut socket = PacketSocket { protocol: u16_at(message, 2)?, ..PacketSocket::default() };
    let mut rest = message.get(BODY..)?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0).map(usize::from), u16_at(rest, 2)) {
        let value = rest.get(4..len)?;
        match kind {
            PACKET_DIAG_INFO => socket.interface = u32_at(value, 0)?,
            PACKET_DIAG_MCLIST => {
                socket.memberships = value.chunks_exact(MEMBERSHIP).filter_map(membership).collect();
            }
            PACKET_DIAG_RX_RING => socket.receive_ring = shape(value),
            PACKET_DIAG_TX_RING => socket.send_ring = shape(value),
            PACKET_DIAG_FANOUT => socket.fanout = u32_at(value, 0),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

/// `struct packet_diag_ring`.
fn shape(bytes: &[u8]) -> Option<Shape> {
    Some(Shape {
        block_size: u32_at(bytes, 0)?,
        blocks: u32_at(bytes, 4)?,
        frame_size: u32_at(bytes, 8)?,
        frames: u32_at(bytes, 12)?,
        retire_ms: u32_at(bytes, 16)?,
        private: u32_at(bytes, 20)?,
        features: u32_at(bytes, 24)?,
    })
}

/// `struct packet_diag_mclist`.
fn membership(bytes: &[u8]) -> Option<Membership> {
    let address = usize::from(u16_at(bytes, 10)?).min(32);
    Some(Membership {
        index: u32_at(bytes, 0)?,
        count: u32_at(bytes, 4)?,
        kind: u16_at(bytes, 8)?,
        address: bytes.get(12..12 + address)?.to_vec(),
    })
}
