//! TCP and UDP.
//!
//! Established TCP connections come with a later version. Until then such a connection is saved as lost: the restored program reads what
//! had arrived, then finds that the other side has closed, as after a failure of the network; the running program and its peers
//! notice nothing. Connections that wait to be accepted, and unread UDP datagrams, are lost the same way.
use super::{check_filter, options};
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{DatagramV1, FileKindV1, SocketStateV1, SocketV1};
use ckpt_sys::{descriptor, socket};

const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;
/// `tcpi_sacked` in `struct tcp_info`: of a listener the backlog.
const TCPI_SACKED: std::ops::Range<usize> = 28..32;
/// Backlog where the kernel does not tell (MPTCP).
const BACKLOG_DEFAULT: u32 = 4096;

/// Saves a TCP or MPTCP socket.
pub(super) fn describe_stream(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    check_filter(context, file)?;
    let fd = file.dup();
    let info = socket::option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 256)?.unwrap_or_default();
    let listens = socket::int_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == Some(1);
    let state = info.first().copied().unwrap_or(TCP_CLOSE);
    let peer = socket::peer_name(fd)?;
    // A socket that was never connected shows no end of file.
    let ended = socket::ready(fd) & libc::POLLRDHUP != 0;
    record.options = options::read_options(fd, &record)?;
    record.state = if listens {
        record.local = socket::local_name(fd)?;
        let backlog = info.get(TCPI_SACKED).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        let backlog = backlog.filter(|_| state == TCP_LISTEN).unwrap_or(BACKLOG_DEFAULT);
        SocketStateV1::Listening { backlog }
    } else if peer.is_some() || ended || !matches!(state, TCP_CLOSE) {
        record.queue = arrived(context, file)?;
        SocketStateV1::ConnectionLost { peer: peer.unwrap_or_default() }
    } else {
        record.local = bound_name(file)?;
        SocketStateV1::Unconnected
    };
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// What has arrived on a connection and was not read.
fn arrived(context: &Context<'_>, file: &FoundFile) -> CaptureResult<Vec<DatagramV1>> {
    let bytes = descriptor::readable_bytes(file.dup()).unwrap_or(0);
    if bytes == 0 || context.objects.is_none() {
        return Ok(Vec::new());
    }
    let max = usize::try_from(bytes).unwrap_or(0);
    let message = socket::receive(file.dup(), max, libc::MSG_PEEK).ok().flatten().unwrap_or_default();
    if message.data.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![DatagramV1 { data: message.data, from: Vec::new(), files: Vec::new(), creds: None }])
}

/// Saves a UDP socket. Datagrams that wait in its queue are lost, as datagrams may be.
pub(super) fn describe_datagram(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    check_filter(context, file)?;
    record.local = bound_name(file)?;
    record.options = options::read_options(file.dup(), &record)?;
    if let Some(address) = socket::peer_name(file.dup())?.filter(|address| !address.is_empty()) {
        record.state = SocketStateV1::ConnectedTo { address };
    }
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// The name of a socket; empty when it is the one that every new socket has.
fn bound_name(file: &FoundFile) -> CaptureResult<Vec<u8>> {
    let name = socket::local_name(file.dup())?;
    // Behind the family and, of IPv6, the flow information nothing but zeros: any address, no port.
    let unbound = name.iter().skip(2).all(|byte| *byte == 0);
    Ok(if unbound { Vec::new() } else { name })
}
