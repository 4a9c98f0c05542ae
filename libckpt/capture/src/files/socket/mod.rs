//! Sockets.
mod connections;
mod datagrams;
mod filter;
mod inet;
pub(super) mod journal;
mod multicast;
mod netlink;
mod options;
pub(super) mod packet_ring;
mod packet_socket;
pub(super) mod peek;
mod raw;
mod tcp;
mod unix;
mod unix_file;
mod unix_peer;

pub(super) use connections::Connections;
pub(super) use multicast::Groups;

use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::{FileKindV1, InternetV1, SocketStateV1, SocketV1};
use ckpt_sys::socket;
use std::os::unix::fs::MetadataExt;

/// Saves a socket.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let int = |name| -> CaptureResult<i32> {
        Ok(socket::int_option(file.dup(), libc::SOL_SOCKET, name)?.unwrap_or_default())
    };
    let (domain, kind, protocol) = (int(libc::SO_DOMAIN)?, int(libc::SO_TYPE)?, int(libc::SO_PROTOCOL)?);
    let record = SocketV1 {
        domain,
        kind,
        protocol,
        inode: file.meta.ino(),
        local: Vec::new(),
        state: SocketStateV1::Unconnected,
        owner: (file.meta.uid(), file.meta.gid()),
        options: Vec::new(),
        shutdown: 0,
        queue: Vec::new(),
        bound_file: None,
        internet: InternetV1::default(),
    };
    match (domain, kind, protocol) {
        (libc::AF_UNIX, ..) => unix::describe(context, file, record),
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => {
            inet::describe_stream(context, file, record)
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE) => {
            inet::describe_datagram(context, file, record)
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW, _)
        | (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => {
            raw::describe(context, file, record)
        }
        (libc::AF_NETLINK, ..) => netlink::describe(context, file, record),
        (libc::AF_PACKET, ..) => packet_socket::describe(context, file, record),
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_SCTP) => Err(context.unsupported(
            file,
            "SCTP cannot be saved yet: the kernel does not tell the state of an association",
            "Close it before saving, or use TCP",
        )),
        _ => Err(context.unsupported(
            file,
            format!("{} (type {kind}, protocol {protocol}) cannot be saved yet", family(domain)),
            "Close it before saving",
        )),
    }
}

/// A socket of AF_UNIX.
pub(super) fn is_unix(file: &FoundFile) -> CaptureResult<bool> {
    let is_socket = file.meta.mode() & libc::S_IFMT == libc::S_IFSOCK && file.link.starts_with(b"socket:[");
    Ok(is_socket && socket::int_option(file.dup(), libc::SOL_SOCKET, libc::SO_DOMAIN)? == Some(libc::AF_UNIX))
}

/// What a family of sockets that cannot be saved is called.
fn family(domain: i32) -> String {
    let name = match domain {
        libc::AF_VSOCK => "a connection to or from a virtual machine (AF_VSOCK)",
        libc::AF_ALG => "a socket of the kernel's cryptography (AF_ALG)",
        libc::AF_XDP => "an express data path socket (AF_XDP)",
        libc::AF_CAN => "a CAN bus socket (AF_CAN)",
        libc::AF_BLUETOOTH => "a Bluetooth socket",
        libc::AF_TIPC => "a TIPC socket",
        libc::AF_PPPOX => "a PPP socket (AF_PPPOX)",
        libc::AF_KEY => "an IPsec key management socket (AF_KEY)",
        libc::AF_RDS => "an RDS socket",
        45 => "an SMC socket (AF_SMC)",
        42 => "a socket of the Qualcomm IPC router",
        _ => return format!("a socket of family {domain}"),
    };
    name.to_owned()
}
