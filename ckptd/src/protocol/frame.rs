//! Frames on a socket, with file descriptors: blocking for clients and workers, asynchronous for the daemon.
use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors that travel with one byte. The kernel's limit (SCM_MAX_FD) is 253.
pub(crate) const FDS_A_MESSAGE: usize = 200;
/// Longest payload, in bytes: far above any message, low enough that a mad header does no harm.
const MAX_PAYLOAD: usize = 16 << 20;
/// Most descriptors in a frame.
const MAX_FDS: usize = 1 << 16;
const HEADER: usize = 8;

/// A payload and the descriptors that came with it.
pub(crate) struct Frame {
    /// JSON.
    pub(crate) payload: Vec<u8>,
    /// The descriptors, close-on-exec.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Sends one frame on a blocking socket.
pub(crate) fn send(socket: impl AsFd, payload: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    for (bytes, fds) in pieces(&header(payload, &raw)?, payload, &raw) {
        let mut done = 0;
        while done < bytes.len() {
            done += retry(|| send_some(socket.as_fd(), &bytes[done..], if done == 0 { fds } else { &[] }))?;
        }
    }
    Ok(())
}

/// Receives one frame on a blocking socket. `None` is a connection that ended before its first byte.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Option<Frame>> {
    let mut assembly = Assembly::default();
    loop {
        let got = {
            let (room, fds) = assembly.room();
            retry(|| receive_some(socket.as_fd(), room, fds))?
        };
        match assembly.advance(got)? {
            Step::More => {}
            Step::Done(frame) => return Ok(Some(frame)),
            Step::Ended => return Ok(None),
        }
    }
}

/// [`send`] on the daemon's side.
pub(crate) async fn send_async(
    socket: &UnixStream,
    payload: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    for (bytes, fds) in pieces(&header(payload, &raw)?, payload, &raw) {
        let mut done = 0;
        while done < bytes.len() {
            let now = if done == 0 { fds } else { &[] };
            done += socket
                .async_io(Interest::WRITABLE, || send_some(socket.as_fd(), &bytes[done..], now))
                .await?;
        }
    }
    Ok(())
}

/// [`receive`] on the daemon's side.
pub(crate) async fn receive_async(socket: &UnixStream) -> io::Result<Option<Frame>> {
    let mut assembly = Assembly::default();
    loop {
        let got = {
            let (room, fds) = assembly.room();
            socket.async_io(Interest::READABLE, || receive_some(socket.as_fd(), room, fds)).await?
        };
        match assembly.advance(got)? {
            Step::More => {}
            Step::Done(frame) => return Ok(Some(frame)),
            Step::Ended => return Ok(None),
        }
    }
}

/// A frame on its way in: header, one byte for each group of descriptors, payload.
#[derive(Default)]
struct Assembly {
    header: [u8; HEADER],
    body: Vec<u8>,
    carriers: usize,
    expected_fds: usize,
    fds: Vec<OwnedFd>,
    filled: usize,
}

enum Step {
    More,
    Done(Frame),
    Ended,
}

impl Assembly {
    /// Where the next bytes go. Each read stops at a part's end, so that no read runs past bytes that carry descriptors.
    fn room(&mut self) -> (&mut [u8], &mut Vec<OwnedFd>) {
        let room = if self.filled < HEADER {
            &mut self.header[self.filled..]
        } else {
            let at = self.filled - HEADER;
            let end = if at < self.carriers { at + 1 } else { self.body.len() };
            &mut self.body[at..end]
        };
        (room, &mut self.fds)
    }

    fn advance(&mut self, got: usize) -> io::Result<Step> {
        if got == 0 {
            return if self.filled == 0 { Ok(Step::Ended) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        self.filled += got;
        if self.filled < HEADER {
            return Ok(Step::More);
        }
        if self.body.is_empty() {
            let length = part(&self.header[..4]);
            self.expected_fds = part(&self.header[4..]);
            if length == 0 || length > MAX_PAYLOAD || self.expected_fds > MAX_FDS {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "not a frame of the control protocol",
                ));
            }
            self.carriers = self.expected_fds.div_ceil(FDS_A_MESSAGE);
            self.body = vec![0; self.carriers + length];
        }
        if self.filled < HEADER + self.body.len() {
            return Ok(Step::More);
        }
        if self.fds.len() != self.expected_fds {
            let text = format!("{} descriptors came, {} were announced", self.fds.len(), self.expected_fds);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let payload = self.body.split_off(self.carriers);
        Ok(Step::Done(Frame { payload, fds: std::mem::take(&mut self.fds) }))
    }
}

fn part(bytes: &[u8]) -> usize {
    let mut word = [0; 4];
    word.copy_from_slice(bytes);
    // A u32 fits a usize on every machine that ckpt runs on.
    usize::try_from(u32::from_le_bytes(word)).unwrap_or(usize::MAX)
}

fn header(payload: &[u8], fds: &[RawFd]) -> io::Result<[u8; HEADER]> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "message too long");
    if payload.len() > MAX_PAYLOAD || fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long"));
    }
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&u32::try_from(payload.len()).map_err(too_long)?.to_le_bytes());
    header[4..].copy_from_slice(&u32::try_from(fds.len()).map_err(too_long)?.to_le_bytes());
    Ok(header)
}

fn pieces<'a>(header: &'a [u8], payload: &'a [u8], fds: &'a [RawFd]) -> Vec<(&'a [u8], &'a [RawFd])> {
    let mut pieces: Vec<(&[u8], &[RawFd])> = vec![(header, &[])];
    pieces.extend(fds.chunks(FDS_A_MESSAGE).map(|group| (&b"f"[..], group)));
    pieces.push((payload, &[]));
    pieces
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let iov = [IoSlice::new(bytes)];
    Ok(sendmsg::<()>(socket.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None)?)
}

fn receive_some(socket: BorrowedFd<'_>, room: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = cmsg_space!([RawFd; FDS_A_MESSAGE]);
    let mut iov = [IoSliceMut::new(room)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let bytes = message.bytes;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel just made these descriptors for this message; nothing else owns them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(bytes)
}

fn retry(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream as StdStream;

    fn files(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| tempfile::tempfile().map(OwnedFd::from).unwrap()).collect()
    }

    #[test]
    fn frames_with_and_without_descriptors() {
        let (ours, theirs) = StdStream::pair().unwrap();
        for count in [0, 1, 200, 201, 450] {
            let fds = files(count);
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            send(&ours, b"{\"a\":1}\n", &borrowed).unwrap();
            let frame = receive(&theirs).unwrap().unwrap();
            assert_eq!(frame.payload, b"{\"a\":1}\n");
            assert_eq!(frame.fds.len(), count);
        }
        drop(ours);
        assert!(receive(&theirs).unwrap().is_none());
    }

    #[test]
    fn a_frame_in_small_pieces() {
        let (mut ours, theirs) = StdStream::pair().unwrap();
        let reader = std::thread::spawn(move || receive(&theirs).unwrap().unwrap().payload);
        for byte in [3, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', b'\n'] {
            ours.write_all(&[byte]).unwrap();
        }
        assert_eq!(reader.join().unwrap(), b"{}\n");
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[0; 8], &[5, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            let (mut ours, theirs) = StdStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            assert!(receive(&theirs).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn fewer_descriptors_than_announced() {
        let (mut ours, theirs) = StdStream::pair().unwrap();
        ours.write_all(&[3, 0, 0, 0, 1, 0, 0, 0, b'f', b'{', b'}', b'\n']).unwrap();
        assert!(receive(&theirs).is_err());
    }
}
