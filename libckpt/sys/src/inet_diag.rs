//! What the kernel tells of TCP sockets (sock_diag(7), inet_diag), those without a descriptor among them.
use crate::error::SysResult;
use crate::sock_diag::{SOCK_DESTROY, dump, order, u32_at};

const TCP_LISTEN: u8 = 10;
const TCP_CLOSE: u8 = 7;
/// `struct inet_diag_sockid` in the request and in the answer.
const ID: usize = 48;
const REQUEST_ID: usize = 8;
const ANSWER_ID: usize = 4;
const ANSWER_INODE: usize = 68;

/// A TCP socket that no process has a descriptor of: what is left of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    family: u8,
    id: [u8; ID],
}

/// What is left of connections from local port `port`, of `family` AF_INET or AF_INET6.
pub fn orphans(family: i32, port: u16) -> SysResult<Vec<Orphan>> {
    let family = u8::try_from(family).unwrap_or(0);
    let mut id = [0; ID];
    id[..2].copy_from_slice(&port.to_be_bytes());
    let mut found = Vec::new();
    dump(&request(family, u32::MAX, &id), &mut |message| found.extend(parse(message)))?;
    Ok(found)
}

fn parse(message: &[u8]) -> Option<Orphan> {
    let (family, state) = (*message.first()?, *message.get(1)?);
    let id: [u8; ID] = message.get(ANSWER_ID..ANSWER_ID + ID)?.try_into().ok()?;
    let orphaned = u32_at(message, ANSWER_INODE)? == 0 && !matches!(state, TCP_LISTEN | TCP_CLOSE);
    orphaned.then_some(Orphan { family, id })
}

impl Orphan {
    /// Its local address: 4 or 16 bytes.
    #[must_use]
    pub fn local_address(&self) -> &[u8] {
        if i32::from(self.family) == libc::AF_INET { &self.id[4..8] } else { &self.id[4..20] }
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN; EOPNOTSUPP on a kernel without CONFIG_INET_DIAG_DESTROY.
    pub fn destroy(&self) -> SysResult<()> {
        order(SOCK_DESTROY, &request(self.family, u32::MAX, &self.id))
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut request = vec![family, 6, 0, 0];
    request.extend(states.to_ne_bytes());
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
        drop(client);
        let left = orphans(libc::AF_INET, port).unwrap();
        assert_eq!((left.len(), left[0].local_address()), (1, [127, 0, 0, 1].as_slice()));
        left[0].destroy().unwrap();
        assert!(orphans(libc::AF_INET, port).unwrap().is_empty());
    }
}
