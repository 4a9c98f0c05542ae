//! /proc/thread-self/net/raw and its kin: sockets that sock_diag(7) does not tell of everywhere.
use crate::error::SysResult;
use crate::proc;
use std::net::{IpAddr, SocketAddr};

/// `st` of a socket that is connected.
const ESTABLISHED: &str = "01";

/// Where the socket with this inode is connected to, by table `name` (raw, raw6, icmp, icmp6) of this thread's network namespace; None: nowhere.
pub fn peer(name: &str, inode: u64) -> SysResult<Option<SocketAddr>> {
    let text = proc::read_own_text(&format!("net/{name}"))?;
    Ok(text.lines().skip(1).find_map(|line| parse(line, inode)))
}

/// `sl local rem st tx:rx tr:when retrnsmt uid timeout inode ...`.
fn parse(line: &str, inode: u64) -> Option<SocketAddr> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, _, peer, state, _, _, _, _, _, found, ..] = words[..] else { return None };
    if found.parse() != Ok(inode) || state != ESTABLISHED {
        return None;
    }
    let (address, port) = peer.split_once(':')?;
    // Each word as the machine's integer.
    let words: Vec<[u8; 4]> = (0..address.len() / 8)
        .map(|at| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [v4] => IpAddr::from(*v4),
        [a, b, c, d] => IpAddr::from(<[u8; 16]>::try_from([*a, *b, *c, *d].concat()).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connected_socket_of_each_family() {
        let v4 = "   1: 00000000:0001 0100007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0";
        assert_eq!(parse(v4, 4711), "127.0.0.1:0".parse().ok());
        assert_eq!(parse(v4, 4712), None);
        assert_eq!(parse(&v4.replace(" 01 ", " 07 "), 4711), None);
        let v6 = " 58: 00000000000000000000000000000000:003A 00000000000000000000000001000000:0000 01 0:0 0:0 0 0 0 99 2 0 0";
        assert_eq!(parse(v6, 99), "[::1]:0".parse().ok());
    }
}
