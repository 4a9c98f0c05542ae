//! TCP_REPAIR: the state of a TCP connection, read and set without a segment being sent (tcp(7) is silent of it; the kernel's
//! net/ipv4/tcp.c is the reference). Needs CAP_NET_ADMIN in the user namespace of the socket's network namespace.
use crate::error::{SysError, SysResult};
use crate::socket::{int_option, option, set_int_option, set_option};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

const OFF_WITHOUT_PROBE: i32 = -1;
const MSS: u32 = 2;
const WINDOW: u32 = 3;
const SACK: u32 = 4;
const TIMESTAMP: u32 = 8;
/// `tcpi_options` and the scales in `struct tcp_info`.
const INFO_OPTIONS: usize = 5;
const INFO_SCALES: usize = 6;
const HAS_TIMESTAMPS: u8 = 1;
const HAS_SACK: u8 = 2;
const HAS_SCALE: u8 = 4;

/// One of a connection's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Received, not read.
    Receive = 1,
    /// Written, not acknowledged.
    Send = 2,
}

/// What both sides agreed on when they connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Largest segment that the other side takes, bytes.
    pub mss: u32,
    /// Window scales, sending and receiving.
    pub window_scale: Option<(u8, u8)>,
    /// Selective acknowledgements.
    pub sack: bool,
    /// This side's time stamp now.
    pub timestamp: Option<u32>,
}

/// A socket in repair mode. Going out of scope ends the mode as if it had never been.
#[derive(Debug)]
pub struct Repair<'a> {
    fd: BorrowedFd<'a>,
    /// The mode takes SO_REUSEADDR for itself.
    reuse: i32,
    ended: bool,
}

impl<'a> Repair<'a> {
    /// Puts a socket that does not listen into repair mode.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, and of a socket that listens.
    pub fn begin(fd: BorrowedFd<'a>) -> SysResult<Self> {
        let reuse = int_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?.unwrap_or(0);
        set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1)?;
        Ok(Self { fd, reuse, ended: false })
    }

    /// Goes on with a socket that was left in the mode ([`Repair::leave`], or by a process that is gone). SO_REUSEADDR becomes `reuse`.
    #[must_use]
    pub fn resume(fd: BorrowedFd<'a>, reuse: i32) -> Self {
        Self { fd, reuse, ended: false }
    }

    /// Ends the mode; with `probe` the other side is asked for its window.
    pub fn end(mut self, probe: bool) -> SysResult<()> {
        self.ended = true;
        self.off(if probe { 0 } else { OFF_WITHOUT_PROBE })
    }

    /// Leaves the socket in the mode: closing it, by whoever is the last, then sends nothing.
    pub fn leave(mut self) {
        self.ended = true;
    }

    fn off(&self, how: i32) -> SysResult<()> {
        set_int_option(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, how)?;
        set_int_option(self.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, self.reuse)
    }

    /// Chooses the queue that the next calls, recvmsg(2) and sendmsg(2) on the socket are about.
    pub fn choose(&self, queue: Queue) -> SysResult<()> {
        set_int_option(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue as i32)
    }

    /// Chooses no queue.
    pub fn choose_none(&self) -> SysResult<()> {
        set_int_option(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, 0)
    }

    /// Sequence number behind the chosen queue.
    pub fn sequence(&self) -> SysResult<u32> {
        self.int(libc::TCP_QUEUE_SEQ).map(i32::cast_unsigned)
    }

    /// Sets the sequence number of the chosen queue, of a socket without a connection.
    pub fn set_sequence(&self, sequence: u32) -> SysResult<()> {
        set_int_option(self.fd, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, sequence.cast_signed())
    }

    /// `struct tcp_repair_window`: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup.
    pub fn window(&self) -> SysResult<[u32; 5]> {
        let bytes = option(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, 20)?.unwrap_or_default();
        let mut window = [0; 5];
        for (word, bytes) in window.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
        }
        Ok(window)
    }

    /// Sets what [`Repair::window`] reads.
    pub fn set_window(&self, window: &[u32; 5]) -> SysResult<()> {
        let bytes: Vec<u8> = window.iter().flat_map(|word| word.to_ne_bytes()).collect();
        set_option(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &bytes)
    }

    /// What both sides agreed on.
    pub fn agreed(&self) -> SysResult<Agreed> {
        let info = option(self.fd, libc::IPPROTO_TCP, libc::TCP_INFO, 256)?.unwrap_or_default();
        let byte = |at: usize| info.get(at).copied().unwrap_or(0);
        let has = |bit: u8| byte(INFO_OPTIONS) & bit != 0;
        let timestamp = self.int(libc::TCP_TIMESTAMP)?.cast_unsigned();
        Ok(Agreed {
            mss: self.int(libc::TCP_MAXSEG)?.cast_unsigned(),
            window_scale: has(HAS_SCALE).then(|| (byte(INFO_SCALES) & 15, byte(INFO_SCALES) >> 4)),
            sack: has(HAS_SACK),
            timestamp: has(HAS_TIMESTAMPS).then_some(timestamp),
        })
    }

    /// Sets what both sides agreed on, of a connection that has sent nothing yet.
    pub fn set_agreed(&self, agreed: &Agreed) -> SysResult<()> {
        let mut options = vec![(MSS, agreed.mss)];
        if let Some((send, receive)) = agreed.window_scale {
            options.push((WINDOW, u32::from(send) | u32::from(receive) << 16));
        }
        if agreed.sack {
            options.push((SACK, 0));
        }
        if let Some(timestamp) = agreed.timestamp {
            options.push((TIMESTAMP, 0));
            set_int_option(self.fd, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, timestamp.cast_signed())?;
        }
        let words = options.iter().flat_map(|(code, value)| [*code, *value]);
        let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        set_option(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &bytes)?;
        self.settle_mss();
        Ok(())
    }

    /// Has the kernel work out anew how long segments are: it did when the connection was made, before it knew what the other side takes.
    /// A change of the IP header's options does it. Of IPv6 it must be a real one, and 8 bytes remain set apart for it.
    fn settle_mss(&self) {
        /// One option of padding: next header, length, PadN with 4 bytes.
        const PADDING: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
        let domain = int_option(self.fd, libc::SOL_SOCKET, libc::SO_DOMAIN);
        let outcome = if matches!(domain, Ok(Some(libc::AF_INET6))) {
            set_option(self.fd, libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &PADDING)
                .and_then(|()| set_option(self.fd, libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &[]))
        } else {
            set_option(self.fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &[])
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection goes on with short segments");
        }
    }

    fn int(&self, name: i32) -> SysResult<i32> {
        let missing = || SysError::new("getsockopt", format!("TCP option {name}"), Errno::ENOPROTOOPT);
        int_option(self.fd, libc::IPPROTO_TCP, name)?.ok_or_else(missing)
    }
}

impl Drop for Repair<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.off(OFF_WITHOUT_PROBE)
        {
            tracing::error!(%error, socket = self.fd.as_raw_fd(), "a socket stays in repair mode");
        }
    }
}

/// Whether a socket is in repair mode.
pub fn is_in_repair(fd: BorrowedFd<'_>) -> SysResult<bool> {
    Ok(int_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR)?.is_some_and(|mode| mode != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn a_connection_does_not_notice_that_it_was_looked_at() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        set_int_option(server.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
        client.write_all(b"hello").unwrap();
        let Ok(repair) = Repair::begin(server.as_fd()) else { return }; // not root
        repair.choose(Queue::Receive).unwrap();
        let received = repair.sequence().unwrap();
        repair.choose(Queue::Send).unwrap();
        let sent = repair.sequence().unwrap();
        assert!(repair.agreed().unwrap().mss > 0 && repair.window().unwrap()[1] > 0);
        assert!(is_in_repair(server.as_fd()).unwrap());
        drop(repair);
        assert!(!is_in_repair(server.as_fd()).unwrap());
        let reuse = int_option(server.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR).unwrap();
        assert_eq!(reuse, Some(1));
        server.write_all(b"there").unwrap();
        let mut text = [0; 5];
        client.read_exact(&mut text).unwrap();
        server.read_exact(&mut text).unwrap();
        let repair = Repair::begin(client.as_fd()).unwrap();
        repair.choose(Queue::Send).unwrap();
        assert_eq!(repair.sequence().unwrap(), received);
        repair.choose(Queue::Receive).unwrap();
        assert_eq!(repair.sequence().unwrap(), sent.wrapping_add(5));
    }
}
