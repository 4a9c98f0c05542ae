//! TCP and UDP.
//!
use super::{datagrams, filter, multicast, options, tcp};
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{FileKindV1, SocketStateV1, SocketV1};
use ckpt_sys::{descriptor, inet_diag, socket, tcp_state};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// `tcpi_unacked` and `tcpi_sacked` in `struct tcp_info`: of a listener the connections that wait, and the backlog.
const TCPI_UNACKED: std::ops::Range<usize> = 24..28;
const TCPI_SACKED: std::ops::Range<usize> = 28..32;
/// Backlog where the kernel does not tell (MPTCP).
const BACKLOG_DEFAULT: u32 = 4096;

/// Saves a TCP or MPTCP socket.
pub(super) fn describe_stream(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    let fd = file.dup();
    let info = socket::option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 256)?.unwrap_or_default();
    let listens = socket::int_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == Some(1);
    let state = info.first().copied().unwrap_or(tcp_state::CLOSE);
    let peer = socket::peer_name(fd)?;
    // A socket that was never connected shows no end of file.
    let ended = socket::ready(fd) & libc::POLLRDHUP != 0;
    record.options = options::read_options(fd, &record)?;
    filter::add(context, file, &mut record)?;
    record.state = if listens {
        record.local = socket::local_name(fd)?;
        options::add_idle(fd, &mut record.options)?;
        let word =
            |range| info.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok()).map(u32::from_ne_bytes);
        let of_listener = |range| word(range).filter(|_| state == tcp_state::LISTEN);
        let backlog = of_listener(TCPI_SACKED).unwrap_or(BACKLOG_DEFAULT);
        let own = context.connections.own_waiting(record.inode);
        record.internet.waiting = of_listener(TCPI_UNACKED).unwrap_or(0).saturating_sub(own);
        if record.internet.waiting > 0 {
            tell_of_waiting(context, file, record.internet.waiting);
        }
        SocketStateV1::Listening { backlog }
    } else if let Some(connection) = context.connections.get(file) {
        record.local = socket::local_name(fd)?;
        // Without the end of the stream from the other side, only the program itself has made an end of reading.
        record.shutdown = u32::from(ended && !tcp_state::is_closed_by_peer(connection.state));
        options::add_buffers(fd, &mut record.options)?;
        SocketStateV1::Tcp(connection.clone())
    } else if peer.is_some() || ended || !matches!(state, tcp_state::CLOSE) {
        let received = if context.objects.is_some() { arrived(fd) } else { Vec::new() };
        SocketStateV1::Tcp(tcp::lost(state, peer.unwrap_or_default(), received))
    } else {
        record.local = bound_name(file)?;
        options::add_idle(fd, &mut record.options)?;
        SocketStateV1::Unconnected
    };
    record.internet.freely_bound = is_freely_bound(&record);
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// Connections that nobody has accepted are no part of the program yet, but their other ends will notice.
fn tell_of_waiting(context: &Context<'_>, file: &FoundFile, waiting: u32) {
    let listener = context.index.name(file);
    tracing::warn!(listener, waiting, "connections that wait to be accepted are not in the checkpoint");
}

/// What has arrived on a connection and was not read.
pub(super) fn arrived(fd: BorrowedFd<'_>) -> Vec<u8> {
    let bytes = descriptor::readable_bytes(fd).unwrap_or(0);
    if bytes == 0 {
        return Vec::new();
    }
    let max = usize::try_from(bytes).unwrap_or(0);
    socket::receive(fd, max, libc::MSG_PEEK).ok().flatten().unwrap_or_default().data
}

/// Saves a UDP socket.
pub(super) fn describe_datagram(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    record.local = bound_name(file)?;
    record.options = options::read_options(file.dup(), &record)?;
    filter::add(context, file, &mut record)?;
    record.shutdown = shutdown(&record)?;
    record.internet.freely_bound = is_freely_bound(&record);
    record.internet.memberships = multicast::memberships(context, file, &record)?;
    record.internet.datagrams = datagrams::peek_queue(context, file, &record)?;
    if let Some(address) = socket::peer_name(file.dup())?.filter(|address| !address.is_empty()) {
        record.state = SocketStateV1::ConnectedTo { address };
    }
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// What directions of a UDP socket have been shut down.
fn shutdown(record: &SocketV1) -> CaptureResult<u32> {
    let port = record.local.get(2..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes);
    if port == 0 {
        return Ok(0);
    }
    let all = inet_diag::sockets(record.domain, record.protocol, port)?;
    let own = all.into_iter().find(|socket| u64::from(socket.inode) == record.inode);
    Ok(own.map_or(0, |socket| u32::from(socket.shutdown) & 3))
}

/// Whether a socket is bound to an address that this machine does not have: another one cannot be bound to it.
fn is_freely_bound(record: &SocketV1) -> bool {
    let mut address = record.local.clone();
    let Some(port) = address.get_mut(2..4) else { return false };
    port.fill(0);
    socket::new(record.domain, libc::SOCK_DGRAM, 0)
        .and_then(|probe| socket::bind(probe.as_fd(), &address))
        .is_err_and(|error| error.errno() == Some(Errno::EADDRNOTAVAIL))
}

/// The name of a socket; empty when it is the one that every new socket has.
fn bound_name(file: &FoundFile) -> CaptureResult<Vec<u8>> {
    let name = socket::local_name(file.dup())?;
    // Behind the family and, of IPv6, the flow information nothing but zeros: any address, no port.
    let unbound = name.iter().skip(2).all(|byte| *byte == 0);
    Ok(if unbound { Vec::new() } else { name })
}
