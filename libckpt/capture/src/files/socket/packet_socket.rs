//! AF_PACKET sockets.
use super::{filter, options, packet_ring};
use crate::error::{CaptureError, CaptureResult};
use crate::files::{Context, FoundFile};
use ckpt_image::record::{FileKindV1, PacketMembershipV1, PacketSocketV1, SocketStateV1, SocketV1};
use ckpt_sys::{packet_diag, socket};

const SOL_PACKET: i32 = 263;
const PACKET_FANOUT: i32 = 18;
/// Types of groups that a program of the user's decides in: PACKET_FANOUT_CBPF, PACKET_FANOUT_EBPF.
const PROGRAMS: [u32; 2] = [6, 7];

/// Saves an AF_PACKET socket. Packets that it has not read are left out: they count as dropped.
pub(super) fn describe(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    let fd = file.dup();
    let refuse = |reason: &str, remedy: &str| Err(context.unsupported(file, reason, remedy));
    let Some(diag) = packet_diag::socket(record.inode)? else {
        return refuse("the kernel does not tell of it (packet_diag)", "Load the module af_packet_diag");
    };
    let fanout = socket::int_option(fd, SOL_PACKET, PACKET_FANOUT)?.unwrap_or(0).cast_unsigned();
    if fanout != 0 && PROGRAMS.contains(&(fanout >> 16 & 0xff)) {
        return refuse(
            "a program that the kernel does not show chooses among its group (PACKET_FANOUT)",
            "Close it before saving",
        );
    }
    let rings = match packet_ring::read(fd, &diag)? {
        Ok(rings) => rings,
        Err(reason) => return refuse(reason, "Close it before saving"),
    };
    record.options = options::read_options(fd, &record)?;
    filter::add(context, file, &mut record)?;
    let mut memberships = Vec::with_capacity(diag.memberships.len());
    for membership in diag.memberships {
        memberships.push(PacketMembershipV1 {
            interface: interface(context, file, membership.index)?,
            kind: membership.kind,
            address: membership.address,
            count: membership.count,
        });
    }
    let interface = interface(context, file, diag.interface)?;
    // As struct sockaddr_ll has it, which a SOCK_PACKET socket does not show.
    let protocol = diag.protocol.to_be();
    record.state = SocketStateV1::Packet(PacketSocketV1 {
        protocol,
        interface,
        memberships,
        fanout,
        receive_ring: rings.receive,
        send_ring: rings.send,
    });
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// The name of an interface; empty for number 0, which is all of them.
fn interface(context: &Context<'_>, file: &FoundFile, index: u32) -> CaptureResult<Vec<u8>> {
    if index == 0 {
        return Ok(Vec::new());
    }
    let gone = |_| -> CaptureError {
        let reason = format!("interface number {index} that it listens at is gone");
        context.unsupported(file, reason, "Close it before saving")
    };
    Ok(nix::net::if_::if_indextoname(index).map_err(gone)?.into_bytes())
}
