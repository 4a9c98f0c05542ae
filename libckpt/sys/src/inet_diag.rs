//! What the kernel tells of TCP and UDP sockets (sock_diag(7), inet_diag), those without a descriptor among them.
use crate::error::SysResult;
use crate::sock_diag::{SOCK_DESTROY, dump, order, u16_at, u32_at};

const TCP_LISTEN: u8 = 10;
const TCP_CLOSE: u8 = 7;
/// `struct inet_diag_sockid` in the request and in the answer.
const ID: usize = 48;
const REQUEST_ID: usize = 8;
const ANSWER_ID: usize = 4;
const ANSWER_RECEIVE_QUEUE: usize = 56;
const ANSWER_INODE: usize = 68;
/// Bytes of `struct inet_diag_msg`, behind which attributes come.
const ANSWER: usize = 72;
const INET_DIAG_SHUTDOWN: u16 = 8;

/// A socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InetSocket {
    family: u8,
    protocol: u8,
    id: [u8; ID],
    /// TCP_ESTABLISHED and so on.
    pub state: u8,
    /// Inode; 0: no process has a descriptor of it.
    pub inode: u32,
    /// TCP: bytes that were not read; of a listener: connections that were not accepted. UDP: memory in use, bytes.
    pub receive_queue: u32,
    /// SHUT_* that were done: bit 0 reading, bit 1 writing.
    pub shutdown: u8,
}

/// The sockets of `protocol` (IPPROTO_TCP, IPPROTO_UDP) and `family` (AF_INET, AF_INET6) with local port `port`; 0: with any.
pub fn sockets(family: i32, protocol: i32, port: u16) -> SysResult<Vec<InetSocket>> {
    let (family, protocol) = (u8::try_from(family).unwrap_or(0), u8::try_from(protocol).unwrap_or(0));
    let mut id = [0; ID];
    id[..2].copy_from_slice(&port.to_be_bytes());
    let mut found = Vec::new();
    dump(&request(family, protocol, &id), &mut |message| found.extend(parse(message, protocol)))?;
    Ok(found)
}

/// What is left, without any process, of connections from local port `port`, of `family` AF_INET or AF_INET6.
pub fn orphans(family: i32, port: u16) -> SysResult<Vec<InetSocket>> {
    let mut found = sockets(family, libc::IPPROTO_TCP, port)?;
    found.retain(|socket| socket.inode == 0 && !matches!(socket.state, TCP_LISTEN | TCP_CLOSE));
    Ok(found)
}

fn parse(message: &[u8], protocol: u8) -> Option<InetSocket> {
    Some(InetSocket {
        family: *message.first()?,
        protocol,
        id: message.get(ANSWER_ID..ANSWER_ID + ID)?.try_into().ok()?,
        state: *message.get(1)?,
        inode: u32_at(message, ANSWER_INODE)?,
        receive_queue: u32_at(message, ANSWER_RECEIVE_QUEUE)?,
        shutdown: shutdown(message),
    })
}

/// The attribute that tells what directions were shut down.
fn shutdown(message: &[u8]) -> u8 {
    let mut rest = message.get(ANSWER..).unwrap_or_default();
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        if kind == INET_DIAG_SHUTDOWN {
            return rest.get(4).copied().unwrap_or(0);
        }
        rest = rest.get(usize::from(len).next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    0
}

impl InetSocket {
    /// Its local address: 4 or 16 bytes.
    #[must_use]
    pub fn local_address(&self) -> &[u8] {
        &self.id[4..4 + self.address_len()]
    }

    /// Its local port.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        u16::from_be_bytes([self.id[0], self.id[1]])
    }

    /// The other side's address: 4 or 16 bytes.
    #[must_use]
    pub fn peer_address(&self) -> &[u8] {
        &self.id[20..20 + self.address_len()]
    }

    /// The other side's port.
    #[must_use]
    pub fn peer_port(&self) -> u16 {
        u16::from_be_bytes([self.id[2], self.id[3]])
    }

    fn address_len(&self) -> usize {
        if i32::from(self.family) == libc::AF_INET { 4 } else { 16 }
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN; EOPNOTSUPP on a kernel without CONFIG_INET_DIAG_DESTROY.
    pub fn destroy(&self) -> SysResult<()> {
        order(SOCK_DESTROY, &request(self.family, self.protocol, &self.id))
    }
}

/// `struct inet_diag_req_v2`, for sockets in any state.
fn request(family: u8, protocol: u8, id: &[u8; ID]) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    debug_assert_eq!(request.len(), REQUEST_ID);
    request.extend_from_slice(id);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_is_left_of_a_connection_can_be_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(orphans(libc::AF_INET, port).unwrap().is_empty());
        // Who closes first is left waiting.
        drop(server);
        client.read_to_end(&mut Vec::new()).unwrap();
        let peer = client.local_addr().unwrap();
        drop(client);
        let left = orphans(libc::AF_INET, port).unwrap();
        assert_eq!((left.len(), left[0].local_address()), (1, [127, 0, 0, 1].as_slice()));
        assert_eq!((left[0].local_port(), left[0].peer_port()), (port, peer.port()));
        left[0].destroy().unwrap();
        assert!(orphans(libc::AF_INET, port).unwrap().is_empty());
    }

    #[test]
    fn a_listener_tells_how_many_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(at).unwrap()).collect();
        let all = sockets(libc::AF_INET, libc::IPPROTO_TCP, at.port()).unwrap();
        let listening = all.iter().find(|socket| socket.state == TCP_LISTEN).unwrap();
        assert_eq!((listening.receive_queue, all.len()), (3, 4));
    }
}
