//! UDP datagrams that wait to be read.
use super::peek::PeekOffset;
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{InternetDatagramV1, SocketV1};
use ckpt_sys::{descriptor, socket};

/// No datagram is longer.
const DATAGRAM_MAX: usize = 64 << 10;
const UDP_GRO: i32 = 104;
/// Times that a socket is asked whether what it sends has left.
const LOOKS: usize = 200;

/// What waits in the queue of a UDP socket.
pub(super) fn peek_queue(
    context: &Context<'_>,
    file: &FoundFile,
    record: &SocketV1,
) -> CaptureResult<Vec<InternetDatagramV1>> {
    let fd = file.dup();
    check_corked(context, file)?;
    let mut queue = Vec::new();
    let ready = socket::ready(fd);
    let Some(journal) = context.journal.filter(|_| ready & libc::POLLIN != 0) else {
        return Ok(queue);
    };
    let refuse = |reason: &str| {
        Err(context.unsupported(
            file,
            reason,
            "Try again when the program has read them, or close the socket before saving",
        ))
    };
    // A socket whose reading was shut down is always ready to tell so; what arrived before is still there.
    if record.shutdown & 1 != 0 && descriptor::readable_bytes(fd)? == 0 {
        return Ok(queue);
    }
    if record.protocol != libc::IPPROTO_UDP {
        return refuse("datagrams of UDP-Lite wait in its queue, which cannot be saved yet");
    }
    if ready & libc::POLLERR != 0 {
        // A peek would take the error away.
        return refuse("datagrams wait in its queue behind an error that the program has not been told of");
    }
    let before = socket::int_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF)?.unwrap_or(-1);
    // The first by a peek without offset: one with it passes over an empty datagram that has been peeked at before.
    let mut guard = if before < 0 { None } else { Some(PeekOffset::set(file, 0, before, journal)?) };
    let mut at = 0;
    while let Some(message) = socket::receive(fd, DATAGRAM_MAX, libc::MSG_PEEK)? {
        // Behind the last one comes the end.
        if record.shutdown & 1 != 0 && message.data.is_empty() && message.from.is_empty() {
            break;
        }
        at += message.data.len();
        split(&mut queue, message);
        match &mut guard {
            Some(guard) => guard.seek(at)?,
            None => guard = Some(PeekOffset::set(file, at, before, journal)?),
        }
    }
    if queue.is_empty() {
        return refuse("empty datagrams wait in its queue, and the kernel shows them only once");
    }
    Ok(queue)
}

/// Refuses a socket that holds half of a datagram back (UDP_CORK, MSG_MORE).
fn check_corked(context: &Context<'_>, file: &FoundFile) -> CaptureResult<()> {
    // A device may have a datagram still, but not for long.
    for _ in 0..LOOKS {
        if descriptor::unsent_bytes(file.dup())? == 0 {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(context.unsupported(
        file,
        "a datagram that it sends has not left: it is corked (UDP_CORK, MSG_MORE), or the device is slow",
        "Try again when it is sent",
    ))
}

/// Adds a message; one that the kernel has put together of several (UDP_GRO) as those.
fn split(queue: &mut Vec<InternetDatagramV1>, message: socket::Message) {
    let control = |wanted: &[(i32, i32)]| {
        message
            .control
            .iter()
            .find(|(level, kind, _)| wanted.contains(&(*level, *kind)))
            .map(|(.., bytes)| bytes)
    };
    let byte = |wanted: &[(i32, i32)]| control(wanted).and_then(|bytes| bytes.first().copied());
    let whole = |name, range: std::ops::Range<usize>| {
        control(&[name]).and_then(|bytes| bytes.get(range)).map(<[u8]>::to_vec)
    };
    let to = whole((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), 0..16)
        // `in_pktinfo`: interface, local address, address in the header; `sockaddr_in`: family, port, address.
        .or_else(|| whole((libc::IPPROTO_IP, libc::IP_PKTINFO), 8..12))
        .or_else(|| whole((libc::IPPROTO_IP, libc::IP_ORIGDSTADDR), 4..8))
        .or_else(|| whole((libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR), 8..24));
    let datagram = |data: &[u8]| InternetDatagramV1 {
        data: data.to_vec(),
        from: message.from.clone(),
        to: to.clone(),
        hop_limit: byte(&[(libc::IPPROTO_IP, libc::IP_TTL), (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)]),
        traffic_class: byte(&[(libc::IPPROTO_IP, libc::IP_TOS), (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)]),
    };
    let segment = control(&[(libc::IPPROTO_UDP, UDP_GRO)])
        .and_then(|bytes| bytes.first_chunk::<4>())
        .and_then(|bytes| usize::try_from(i32::from_ne_bytes(*bytes)).ok())
        .filter(|bytes| *bytes > 0);
    match segment {
        Some(segment) => queue.extend(message.data.chunks(segment).map(datagram)),
        None => queue.push(datagram(&message.data)),
    }
}
