//! One TCP connection, read by TCP_REPAIR. The mode is on for some microseconds, in which the program stands still.
use super::journal::{Journal, Note};
use crate::error::CaptureResult;
use crate::files::FoundFile;
use ckpt_image::fault;
use ckpt_image::record::{FarEndV1, TcpConnectionV1};
use ckpt_sys::tcp_repair::{Queue, Repair};
use ckpt_sys::{SysError, SysResult, descriptor, socket, tcp_state};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

/// Times that a connection is read until nothing arrives meanwhile.
const ATTEMPTS: usize = 100;

/// A connection, and what of it could not be read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) connection: TcpConnectionV1,
    /// Bytes were left behind: urgent data stand in the way.
    pub(super) incomplete: bool,
    /// By TCP_REPAIR: all is known that it takes to go on with it.
    pub(super) privileged: bool,
}

/// Reads the connection of a socket in state `tcp_state::is_connected`; None: it has ended meanwhile.
pub(super) fn read(file: &FoundFile, peer: &[u8], journal: &Journal<'_>) -> CaptureResult<Option<Read>> {
    let fd = file.dup();
    let reuse = socket::int_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?.unwrap_or(0);
    let peek_offset = socket::int_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF)?.unwrap_or(-1);
    let note = Note { inode: file.meta.ino(), peek_offset, repair: Some(reuse) };
    for _ in 0..ATTEMPTS {
        let before = Marks::read(fd)?;
        if !tcp_state::is_connected(before.state) {
            return Ok(None);
        }
        journal.write(&note)?;
        let read = try_read(fd, peer, &before, peek_offset);
        if read.is_err() {
            note.undo(fd)?;
        }
        journal.clear()?;
        if let Some(read) = read? {
            return Ok(Some(read));
        }
    }
    Err(SysError::new("read", "a TCP connection that does not come to rest", Errno::EAGAIN).into())
}

/// What changes when segments arrive.
#[derive(Debug, PartialEq, Eq)]
struct Marks {
    state: u8,
    unread: u32,
    unacknowledged: u32,
    never_sent: u32,
}

impl Marks {
    fn read(fd: BorrowedFd<'_>) -> SysResult<Self> {
        Ok(Self {
            state: tcp_state::of(fd)?,
            unread: descriptor::readable_bytes(fd)?,
            unacknowledged: descriptor::unsent_bytes(fd)?,
            never_sent: descriptor::never_sent_bytes(fd)?,
        })
    }
}

/// None: something arrived meanwhile.
fn try_read(fd: BorrowedFd<'_>, peer: &[u8], before: &Marks, peek_offset: i32) -> SysResult<Option<Read>> {
    let closed = tcp_state::has_closed(before.state);
    // The end of the stream counts as a byte until it is acknowledged.
    let end_waits = u32::from(closed && before.state != tcp_state::FIN_WAIT2);
    let unacknowledged = before.unacknowledged.saturating_sub(end_waits);
    let unsent = before.never_sent.saturating_sub(end_waits).min(unacknowledged);

    let repair = Repair::begin(fd)?;
    fault::point("capture.tcp.repair")
        .map_err(|error| SysError::new("fault point", "capture.tcp.repair", error))?;
    if peek_offset >= 0 {
        socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, -1)?;
    }
    let agreed = repair.agreed()?;
    let window = repair.window()?;
    repair.choose(Queue::Receive)?;
    let received_to = repair.sequence()?;
    let received = peek(fd, before.unread)?;
    repair.choose(Queue::Send)?;
    let written_to = repair.sequence()?;
    let sent = peek(fd, unacknowledged)?;
    repair.choose_none()?;
    if peek_offset >= 0 {
        socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, peek_offset)?;
    }
    let unchanged = repair.window()? == window;
    repair.end(false)?;
    if !unchanged || Marks::read(fd)? != *before {
        return Ok(None);
    }
    let incomplete = received.len() != len(before.unread) || sent.len() != len(unacknowledged);
    let connection = TcpConnectionV1 {
        state: before.state,
        peer: peer.to_vec(),
        far_end: FarEndV1::Lost,
        send_seq: written_to.wrapping_sub(u32::from(closed)).wrapping_sub(unacknowledged),
        sent,
        unsent,
        receive_seq: received_to
            .wrapping_sub(u32::from(tcp_state::is_closed_by_peer(before.state)))
            .wrapping_sub(before.unread),
        received,
        mss: agreed.mss,
        window_scale: agreed.window_scale,
        sack: agreed.sack,
        timestamp: agreed.timestamp,
        window,
    };
    Ok(Some(Read { connection, incomplete, privileged: true }))
}

fn peek(fd: BorrowedFd<'_>, bytes: u32) -> SysResult<Vec<u8>> {
    if bytes == 0 {
        return Ok(Vec::new());
    }
    Ok(socket::receive(fd, len(bytes), libc::MSG_PEEK)?.unwrap_or_default().data)
}

fn len(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A connection of which nothing but the other side's name and what has arrived is known.
pub(super) fn lost(state: u8, peer: Vec<u8>, received: Vec<u8>) -> TcpConnectionV1 {
    TcpConnectionV1 {
        state,
        peer,
        far_end: FarEndV1::Lost,
        send_seq: 0,
        sent: Vec::new(),
        unsent: 0,
        receive_seq: 0,
        received,
        mss: 0,
        window_scale: None,
        sack: false,
        timestamp: None,
        window: [0; 5],
    }
}

/// Whether the records of both ends fit together: what one side no longer has, the other has.
pub(super) fn fit(sender: &TcpConnectionV1, receiver: &TcpConnectionV1) -> bool {
    let arrived = u32::try_from(receiver.received.len()).unwrap_or(u32::MAX);
    let expected = receiver.receive_seq.wrapping_add(arrived);
    let ahead = expected.wrapping_sub(sender.send_seq);
    len(ahead) <= sender.sent.len()
}
