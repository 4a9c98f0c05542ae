//! Sockets.
mod connections;
mod datagrams;
mod inet;
pub(super) mod journal;
mod multicast;
mod options;
pub(super) mod peek;
mod tcp;
mod unix;

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
        _ => Err(context.unsupported(
            file,
            format!("sockets of family {domain}, type {kind}, protocol {protocol} cannot be saved yet"),
            "Close it before saving",
        )),
    }
}

/// A socket of AF_UNIX.
pub(super) fn is_unix(file: &FoundFile) -> CaptureResult<bool> {
    let is_socket = file.meta.mode() & libc::S_IFMT == libc::S_IFSOCK && file.link.starts_with(b"socket:[");
    Ok(is_socket && socket::int_option(file.dup(), libc::SOL_SOCKET, libc::SO_DOMAIN)? == Some(libc::AF_UNIX))
}

/// Refuses a socket whose filter would be lost.
fn check_filter(context: &Context<'_>, file: &FoundFile) -> CaptureResult<()> {
    if socket::has_filter(file.dup()) {
        return Err(context.unsupported(
            file,
            "a filter is attached to it (SO_ATTACH_FILTER), which cannot be saved yet",
            "Detach it or close the socket before saving",
        ));
    }
    Ok(())
}
