//! What waits in the queue of a socket, looked at without being taken.
//!
//! Past the first message one gets only by SO_PEEK_OFF, which is the socket's own, and so the program's. Before it is changed, the journal says what it was; a capture
//! that is killed meanwhile leaves the journal in the job, and whoever finds it puts the option back.
use super::journal::{Journal, Note};
use crate::error::CaptureResult;
use crate::files::FoundFile;
use crate::files::index::FileIndex;
use ckpt_image::fault;
use ckpt_image::record::DatagramV1;
use ckpt_sys::{SysError, descriptor, socket};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

/// Longest message that is saved, bytes.
const MESSAGE_MAX: usize = 16 << 20;
/// Room for a message at first.
const MESSAGE_ROOM: usize = 256 << 10;

/// What waits in the queue of a socket. Descriptors in it join the index.
pub(in crate::files) fn peek_queue(
    index: &mut FileIndex,
    file: &FoundFile,
    journal: &Journal<'_>,
) -> CaptureResult<Vec<DatagramV1>> {
    let fd = file.dup();
    let int = |name| socket::int_option(fd, libc::SOL_SOCKET, name);
    if int(libc::SO_ACCEPTCONN)? == Some(1) {
        return Ok(Vec::new());
    }
    let kind = int(libc::SO_TYPE)?.unwrap_or(0);
    let old_offset = int(libc::SO_PEEK_OFF)?.unwrap_or(-1);
    let offset = |offset| PeekOffset::set(file, offset, old_offset, journal);
    let mut queue = Vec::new();
    if kind == libc::SOCK_STREAM {
        let total = usize::try_from(descriptor::readable_bytes(fd)?).unwrap_or(0);
        if total == 0 {
            return Ok(queue);
        }
        // A peek without offset begins at the head and ends at the first message with descriptors.
        if old_offset < 0
            && let Some(first) = peek(fd, total)?
        {
            push(index, &mut queue, first)?;
        }
        if bytes(&queue) < total {
            let _guard = offset(bytes(&queue))?;
            while bytes(&queue) < total
                && let Some(message) = peek(fd, total - bytes(&queue))?
            {
                push(index, &mut queue, message)?;
            }
        }
        return Ok(queue);
    }
    if socket::ready(fd) & libc::POLLIN == 0 {
        return Ok(queue);
    }
    let ended = socket::ready(fd) & libc::POLLRDHUP != 0;
    let mut room = MESSAGE_ROOM;
    // The first by a peek without offset: one with it passes over an empty message that has been peeked at before.
    let mut guard = if old_offset < 0 { None } else { Some(offset(0)?) };
    while let Some(message) = peek(fd, room)? {
        if message.truncated {
            if room >= MESSAGE_MAX {
                return Err(SysError::new("recvmsg", index.name(file), Errno::EMSGSIZE).into());
            }
            room = MESSAGE_MAX;
            if let Some(guard) = &mut guard {
                guard.seek(bytes(&queue))?;
            }
            continue;
        }
        // The end of a sequence of packets looks like an empty one.
        if message.data.is_empty() && ended {
            break;
        }
        push(index, &mut queue, message)?;
        if guard.is_none() {
            guard = Some(offset(bytes(&queue))?);
        }
    }
    Ok(queue)
}

/// Looks at the first message in the queue of a socket of a process that runs on; descriptors in it join the index. Whether that was all. An empty
/// message is not looked at: the kernel marks it, and a capture would miss it.
pub(in crate::files) fn glance(index: &mut FileIndex, file: &FoundFile) -> CaptureResult<bool> {
    let fd = file.dup();
    let int = |name| socket::int_option(fd, libc::SOL_SOCKET, name);
    if int(libc::SO_ACCEPTCONN)? == Some(1) || socket::ready(fd) & libc::POLLIN == 0 {
        return Ok(true);
    }
    let waiting = usize::try_from(descriptor::readable_bytes(fd)?).unwrap_or(0);
    let is_stream = int(libc::SO_TYPE)? == Some(libc::SOCK_STREAM);
    if waiting == 0 || int(libc::SO_PEEK_OFF)?.unwrap_or(-1) >= 0 {
        return Ok(is_stream && waiting == 0);
    }
    let mut queue = Vec::new();
    if let Some(first) = peek(fd, waiting.min(MESSAGE_MAX))? {
        push(index, &mut queue, first)?;
    }
    // Of messages with bounds it is not told whether there are more.
    Ok(is_stream && bytes(&queue) >= waiting)
}

fn bytes(queue: &[DatagramV1]) -> usize {
    queue.iter().map(|message| message.data.len()).sum()
}

fn peek(fd: BorrowedFd<'_>, room: usize) -> CaptureResult<Option<socket::Message>> {
    match socket::receive(fd, room, libc::MSG_PEEK) {
        Ok(message) => Ok(message),
        Err(error) if matches!(error.errno(), Some(Errno::ENOTCONN | Errno::EINVAL)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn push(index: &mut FileIndex, queue: &mut Vec<DatagramV1>, message: socket::Message) -> CaptureResult<()> {
    let mut files = Vec::with_capacity(message.files.len());
    for dup in message.files {
        files.push(index.add_in_flight(dup)?);
    }
    queue.push(DatagramV1 { data: message.data, from: message.from, files, creds: message.creds });
    Ok(())
}

/// SO_PEEK_OFF of a socket of the job's, put back when this goes.
pub(super) struct PeekOffset<'a> {
    fd: BorrowedFd<'a>,
    before: i32,
    journal: &'a Journal<'a>,
}

impl<'a> PeekOffset<'a> {
    pub(super) fn set(
        file: &'a FoundFile,
        offset: usize,
        before: i32,
        journal: &'a Journal<'a>,
    ) -> CaptureResult<Self> {
        journal.write(&Note { inode: file.meta.ino(), peek_offset: before, repair: None })?;
        let mut guard = Self { fd: file.dup(), before, journal };
        point("capture.peek.noted")?;
        guard.seek(offset)?;
        point("capture.peek.set")?;
        Ok(guard)
    }

    pub(super) fn seek(&mut self, offset: usize) -> CaptureResult<()> {
        let offset = i32::try_from(offset).unwrap_or(i32::MAX);
        Ok(socket::set_int_option(self.fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, offset)?)
    }
}

impl Drop for PeekOffset<'_> {
    fn drop(&mut self) {
        if let Err(error) = socket::set_int_option(self.fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, self.before)
        {
            tracing::error!(%error, "SO_PEEK_OFF of a socket could not be put back");
            return;
        }
        let _ = point("capture.peek.back");
        if let Err(error) = self.journal.clear() {
            tracing::error!(%error, "the journal could not be cleared");
        }
    }
}

/// A place where a test may make the capture fail.
fn point(name: &'static str) -> CaptureResult<()> {
    fault::point(name).map_err(|error| SysError::new("fault point", name, error).into())
}
