//! TCP and UDP.
//!
//! Until established TCP connections can be kept, such a connection is saved as lost: the restored program reads what
//! had arrived, then finds that the other side has closed, as after a failure of the network; the running program and its peers
//! notice nothing.
use super::{check_filter, datagrams, multicast, options};
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{FarEndV1, FileKindV1, SocketStateV1, SocketV1, TcpConnectionV1};
use ckpt_sys::{descriptor, socket};

const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;
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
        let word =
            |range| info.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok()).map(u32::from_ne_bytes);
        let of_listener = |range| word(range).filter(|_| state == TCP_LISTEN);
        let backlog = of_listener(TCPI_SACKED).unwrap_or(BACKLOG_DEFAULT);
        record.internet.waiting = of_listener(TCPI_UNACKED).unwrap_or(0);
        if record.internet.waiting > 0 {
            tell_of_waiting(context, file, record.internet.waiting);
        }
        SocketStateV1::Listening { backlog }
    } else if peer.is_some() || ended || !matches!(state, TCP_CLOSE) {
        SocketStateV1::Tcp(TcpConnectionV1 {
            state,
            peer: peer.unwrap_or_default(),
            far_end: FarEndV1::Lost,
            send_seq: 0,
            sent: Vec::new(),
            unsent: 0,
            receive_seq: 0,
            received: arrived(context, file),
            mss: 0,
            window_scale: None,
            sack: false,
            timestamp: None,
            window: [0; 5],
        })
    } else {
        record.local = bound_name(file)?;
        SocketStateV1::Unconnected
    };
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// Connections that nobody has accepted are no part of the program yet, but their other ends will notice.
fn tell_of_waiting(context: &Context<'_>, file: &FoundFile, waiting: u32) {
    let listener = context.index.name(file);
    tracing::warn!(listener, waiting, "connections that wait to be accepted are not in the checkpoint");
}

/// What has arrived on a connection and was not read.
fn arrived(context: &Context<'_>, file: &FoundFile) -> Vec<u8> {
    let bytes = descriptor::readable_bytes(file.dup()).unwrap_or(0);
    if bytes == 0 || context.objects.is_none() {
        return Vec::new();
    }
    let max = usize::try_from(bytes).unwrap_or(0);
    socket::receive(file.dup(), max, libc::MSG_PEEK).ok().flatten().unwrap_or_default().data
}

/// Saves a UDP socket.
pub(super) fn describe_datagram(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    check_filter(context, file)?;
    record.local = bound_name(file)?;
    record.options = options::read_options(file.dup(), &record)?;
    record.internet.memberships = multicast::memberships(context, file, &record)?;
    record.internet.datagrams = datagrams::peek_queue(context, file, &record)?;
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
