//! A packet filter that drops what arrives and what leaves over a list of TCP connections (nf_tables, over netlink).
use crate::error::{SysError, SysResult};
use crate::netlink_request::{self, ACK, CREATE, EXCLUSIVE, NLMSG_ERROR, REQUEST, u16_at, u32_at};
use crate::rtnetlink::attribute;
use crate::socket;
use nix::errno::Errno;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

const NETLINK_NETFILTER: i32 = 12;
const SUBSYSTEM: u16 = 10;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NLA_F_NESTED: u16 = 0x8000;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// The table goes when the socket that made it is closed.
const TABLE_OWNER: u32 = 2;
/// Chains, and NF_INET_LOCAL_IN and NF_INET_LOCAL_OUT, where they hook in.
const CHAINS: [(&str, u32); 2] = [("input", 1), ("output", 3)];
/// Before every chain of the usual priorities.
const PRIORITY: i32 = -400;
/// NFT_REG32_00, where the address pair goes; the port pair follows.
const REGISTER: u32 = 8;
/// NFTA_TABLE_NAME.
const TABLE_NAME: u16 = 1;
const META_MARK: u32 = 3;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
/// Elements that one message carries.
const ELEMENTS_MAX: usize = 500;
/// Room for a batch, bytes.
const ROOM: i32 = 8 << 20;

/// Segments with this mark pass.
pub const MARK: u32 = 0x636b_7074;

/// A connection as it looks from here: this side, the other side. Both of one family.
pub type Tuple = (SocketAddr, SocketAddr);

/// A filter that lives as long as this.
#[derive(Debug)]
pub struct OwnFilter {
    _link: OwnedFd,
}

/// Drops all segments of these connections until the result is dropped, or this process ends.
///
/// # Errors
/// EOPNOTSUPP and EPROTONOSUPPORT of a kernel without nf_tables, EPERM without CAP_NET_ADMIN.
pub fn hold(name: &str, connections: &[Tuple]) -> SysResult<OwnFilter> {
    let link = open()?;
    install(&link, name, TABLE_OWNER, connections)?;
    Ok(OwnFilter { _link: link })
}

/// Drops all segments of these connections until [`remove`] is called with `name`.
///
/// # Errors
/// As [`hold`]'s; EEXIST where there is one of that name.
pub fn hold_on(name: &str, connections: &[Tuple]) -> SysResult<()> {
    install(&open()?, name, 0, connections)
}

/// Whether there is a filter of this name.
pub fn exists(name: &str) -> SysResult<bool> {
    let mut request = Message::new(GETTABLE, ACK);
    request.string(1, name);
    match exchange(&open()?, &request.finish(0), 1) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EINVAL) => Ok(false),
        Err(errno) => Err(SysError::new("nf_tables", name.to_owned(), errno)),
    }
}

/// Families (NFPROTO_*) and names of all tables of this thread's network namespace.
pub fn tables() -> SysResult<Vec<(u8, String)>> {
    let mut found = Vec::new();
    // struct nfgenmsg: all families.
    let body = [0; 4];
    netlink_request::exchange(
        (NETLINK_NETFILTER, "nf_tables"),
        SUBSYSTEM << 8 | GETTABLE,
        netlink_request::DUMP,
        &body,
        &mut |message| {
            let name = message.get(body.len()..).and_then(|rest| attribute(rest, TABLE_NAME));
            if let (Some(family), Some(name)) = (message.first(), name) {
                found.push((*family, String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()));
            }
        },
    )?;
    Ok(found)
}

/// Removes a filter.
pub fn remove(name: &str) -> SysResult<()> {
    let mut request = Message::new(DELTABLE, ACK);
    request.string(1, name);
    run(&open()?, name, vec![request])
}

fn open() -> SysResult<OwnedFd> {
    let link = socket::new(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_NETFILTER)?;
    for buffer in [libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE] {
        let _ = socket::set_int_option(link.as_fd(), libc::SOL_SOCKET, buffer, ROOM);
    }
    Ok(link)
}

fn install(link: &OwnedFd, name: &str, flags: u32, connections: &[Tuple]) -> SysResult<()> {
    let create = CREATE | EXCLUSIVE | ACK;
    let mut table = Message::new(NEWTABLE, create);
    table.string(1, name);
    table.number(2, flags);
    let mut messages = vec![table];
    for (name_of_chain, hook_number) in CHAINS {
        let mut chain = Message::new(NEWCHAIN, create);
        chain.string(1, name);
        chain.string(3, name_of_chain);
        chain.nested(4, |hook| {
            hook.number(1, hook_number);
            hook.number(2, PRIORITY.cast_unsigned());
        });
        chain.string(7, "filter");
        messages.push(chain);
    }
    for (family, set, id, len) in [(NFPROTO_IPV4, "v4", 1, 12), (NFPROTO_IPV6, "v6", 2, 36)] {
        let keys: Vec<Vec<u8>> = connections.iter().flat_map(|connection| keys(family, connection)).collect();
        if keys.is_empty() {
            continue;
        }
        let mut message = Message::new(NEWSET, create);
        message.string(1, name);
        message.string(2, set);
        message.number(3, 0);
        message.number(4, 0);
        message.number(5, len);
        message.number(10, id);
        messages.push(message);
        for keys in keys.chunks(ELEMENTS_MAX) {
            let mut message = Message::new(NEWSETELEM, CREATE | ACK);
            message.string(1, name);
            message.string(2, set);
            message.nested(3, |list| {
                for key in keys {
                    list.nested(1, |element| element.nested(1, |data| data.bytes(1, key)));
                }
            });
            messages.push(message);
        }
        messages.extend(CHAINS.map(|(chain, _)| rule(name, chain, family, set)));
    }
    run(link, name, messages)
}

/// Address pair and port pair as they stand in the segments of a connection, one way and the other.
fn keys(family: u8, (here, there): &Tuple) -> Vec<Vec<u8>> {
    [(here, there), (there, here)].into_iter().filter_map(|(from, to)| key(family, *from, *to)).collect()
}

fn key(family: u8, from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    let ip = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (NFPROTO_IPV4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (NFPROTO_IPV6, ip.octets().to_vec()),
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let ((their_family, from), (_, to)) = (ip(from.ip()), ip(to.ip()));
    (their_family == family).then(|| [from, to, ports].concat())
}

/// Drops every TCP segment whose addresses and ports are in `set` and that does not have our mark.
fn rule(table: &str, chain: &str, family: u8, set: &str) -> Message {
    let mut message = Message::new(NEWRULE, CREATE | ACK);
    message.string(1, table);
    message.string(2, chain);
    let (addresses_at, addresses) = if family == NFPROTO_IPV4 { (12, 8) } else { (8, 32) };
    message.nested(4, |list| {
        let mut expression = |name: &str, fill: &dyn Fn(&mut Message)| {
            list.nested(1, |item| {
                item.string(1, name);
                item.nested(2, |data| fill(data));
            });
        };
        let mut compare = |what: u32, operator: u32, value: &[u8]| {
            expression("meta", &|data| {
                data.number(2, what);
                data.number(1, REGISTER);
            });
            expression("cmp", &|data| {
                data.number(1, REGISTER);
                data.number(2, operator);
                data.nested(3, |wanted| wanted.bytes(1, value));
            });
        };
        compare(META_NFPROTO, 0, &[family]);
        compare(META_L4PROTO, 0, &[6]);
        compare(META_MARK, 1, &MARK.to_ne_bytes());
        for (register, base, offset, len) in [
            (REGISTER, BASE_NETWORK, addresses_at, addresses),
            (REGISTER + addresses / 4, BASE_TRANSPORT, 0, 4),
        ] {
            expression("payload", &|data| {
                data.number(1, register);
                data.number(2, base);
                data.number(3, offset);
                data.number(4, len);
            });
        }
        expression("lookup", &|data| {
            data.string(1, set);
            data.number(2, REGISTER);
        });
        expression("immediate", &|data| {
            data.number(1, 0);
            data.nested(2, |value| value.nested(2, |verdict| verdict.number(1, 0)));
        });
    });
    message
}

/// Runs messages as one transaction.
fn run(link: &OwnedFd, name: &str, messages: Vec<Message>) -> SysResult<()> {
    let answers = messages.len();
    let mut batch = Message::bare(BATCH_BEGIN).finish(0);
    for (message, sequence) in messages.into_iter().zip(1_u32..) {
        batch.extend(message.finish(sequence));
    }
    batch.extend(Message::bare(BATCH_END).finish(0));
    exchange(link, &batch, answers).map_err(|errno| SysError::new("nf_tables", name.to_owned(), errno))
}

/// Sends a request and reads the acknowledgements; the first error.
fn exchange(link: &OwnedFd, request: &[u8], mut answers: usize) -> Result<(), Errno> {
    let broken = |error: SysError| error.errno().unwrap_or(Errno::EIO);
    socket::send(link.as_fd(), request, &socket::Attached::default()).map_err(broken)?;
    while answers > 0
        && let Some(answer) = socket::receive(link.as_fd(), 64 << 10, 0).map_err(broken)?
    {
        let mut bytes = answer.data.as_slice();
        while let (Some(len), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
            if kind == NLMSG_ERROR {
                let errno = u32_at(bytes, 16).map_or(0, u32::cast_signed).wrapping_neg();
                if errno != 0 {
                    return Err(Errno::from_raw(errno));
                }
                answers -= 1;
            }
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(())
}

/// A netlink message, or the inside of one of its attributes.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        Self::with(SUBSYSTEM << 8 | kind, flags, NFPROTO_INET, 0)
    }

    /// A message that begins or ends a transaction.
    fn bare(kind: u16) -> Self {
        Self::with(kind, 0, 0, SUBSYSTEM)
    }

    fn with(kind: u16, flags: u16, family: u8, resource: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        Self(bytes)
    }

    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn string(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inside = Self::default();
        fill(&mut inside);
        self.bytes(kind | NLA_F_NESTED, &inside.0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(0);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn a_connection_that_is_held_hears_nothing_and_then_goes_on() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let tuple = (server.local_addr().unwrap(), server.peer_addr().unwrap());
            let name = format!("ckpt-test-{}", tuple.0.port());
            let filter = match hold(&name, &[tuple]) {
                Err(error) if error.errno() == Some(Errno::EPERM) => return, // not root
                other => other.unwrap(),
            };
            assert!(exists(&name).unwrap());
            client.write_all(b"late").unwrap();
            server.set_nonblocking(true).unwrap();
            assert!(server.read(&mut [0; 4]).is_err());
            server.set_nonblocking(false).unwrap();
            server.write_all(b"held").unwrap();
            client.set_nonblocking(true).unwrap();
            assert!(client.read(&mut [0; 4]).is_err());
            client.set_nonblocking(false).unwrap();
            server.set_nonblocking(true).unwrap();
            let lasting = format!("{name}-on");
            hold_on(&lasting, &[tuple]).unwrap();
            drop(filter);
            assert!(!exists(&name).unwrap() && exists(&lasting).unwrap());
            assert!(server.read(&mut [0; 4]).is_err());
            remove(&lasting).unwrap();
            assert!(!exists(&lasting).unwrap());
            server.set_nonblocking(false).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut text = [0; 4];
            server.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"late");
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"held");
        }
    }
}
