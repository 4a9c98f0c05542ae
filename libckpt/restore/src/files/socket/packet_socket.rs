//! AF_PACKET sockets: bound last, when options and filter are there.
use super::{filter, options, packet_ring};
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use crate::files::common::show;
use ckpt_image::record::{OpenFileId, PacketSocketV1, SocketStateV1, SocketV1};
use ckpt_sys::socket;
use nix::sys::socket::MsgFlags;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const SOL_PACKET: i32 = 263;
const PACKET_ADD_MEMBERSHIP: i32 = 1;
const PACKET_FANOUT: i32 = 18;
/// The type that sockets of before AF_PACKET have.
const SOCK_PACKET: i32 = 10;
/// Bytes of an address in `struct packet_mreq`.
const ADDRESS: usize = 8;

/// Makes all AF_PACKET sockets.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, sockets: &[(OpenFileId, &SocketV1)]) -> RestoreResult<()> {
    for (id, record) in sockets {
        if let SocketStateV1::Packet(packet) = &record.state {
            let made = maker.further.in_net_of(*id, || make(record, packet))?;
            maker.made.insert(*id, made);
        }
    }
    packet_ring::map_all(maker, sockets)
}

fn make(record: &SocketV1, packet: &PacketSocketV1) -> RestoreResult<OwnedFd> {
    // Without a protocol it hears nothing until it is bound. One of the old type cannot be told its protocol later.
    let is_old = record.kind == SOCK_PACKET;
    let protocol = if is_old { i32::from(packet.protocol) } else { 0 };
    let made = socket::new(record.domain, record.kind, protocol)?;
    let fd = made.as_fd();
    options::all(fd, record)?;
    let was_bound = packet_ring::make(fd, packet)?;
    filter::attach(fd, record)?;
    for membership in &packet.memberships {
        // struct packet_mreq: interface, kind, length of the address, address.
        let mut request = index(&membership.interface)?.to_ne_bytes().to_vec();
        request.extend(membership.kind.to_ne_bytes());
        request.extend(u16::try_from(membership.address.len()).unwrap_or(0).to_ne_bytes());
        request.extend_from_slice(&membership.address);
        request.resize(request.len().max(8 + ADDRESS), 0);
        for _ in 0..membership.count {
            socket::set_option(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request)?;
        }
    }
    if is_old {
        bind_by_name(fd, &packet.interface)?;
    } else if was_bound || packet.protocol != 0 || !packet.interface.is_empty() {
        packet_ring::bind(fd, packet.protocol, index(&packet.interface)?)?;
    }
    if packet.fanout != 0 {
        socket::set_option(fd, SOL_PACKET, PACKET_FANOUT, &packet.fanout.to_ne_bytes())?;
    }
    Ok(made)
}

/// Binds a socket of type SOCK_PACKET, whose address is a `struct sockaddr` with the interface's name, and drops what it has heard since it was made.
fn bind_by_name(fd: BorrowedFd<'_>, interface: &[u8]) -> RestoreResult<()> {
    if interface.is_empty() {
        return Ok(());
    }
    index(interface)?;
    let mut name = family();
    name.extend_from_slice(interface);
    // Longer names it does not take, nor did it from the program.
    name.resize(16, 0);
    socket::bind(fd, &name)?;
    while nix::sys::socket::recv(fd.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT).is_ok() {}
    Ok(())
}

/// How an address begins.
fn family() -> Vec<u8> {
    u16::try_from(libc::AF_PACKET).unwrap_or(0).to_ne_bytes().to_vec()
}

/// The number of an interface; 0 for no name, which is all of them.
fn index(interface: &[u8]) -> RestoreResult<u32> {
    if interface.is_empty() {
        return Ok(0);
    }
    nix::net::if_::if_nametoindex(interface).map_err(|_| RestoreError::File {
        path: format!("interface {}", show(interface)),
        reason: "a socket of the program listens there (AF_PACKET), and there is no such interface".into(),
        remedy: "Give this machine an interface of that name (ip link) and restore again".into(),
    })
}
