//! `sockaddr_in` and `sockaddr_in6` as bytes.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address in a `sockaddr`; None: it is of another family, or incomplete.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(at(bytes, 0)?);
    let port = u16::from_be_bytes(at(bytes, 2)?);
    match i32::from(family) {
        libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(at::<4>(bytes, 4)?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(at::<16>(bytes, 8)?);
            let scope = at(bytes, 24).map_or(0, u32::from_ne_bytes);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// The `sockaddr` of an address.
#[must_use]
pub fn encode(address: SocketAddr) -> Vec<u8> {
    let family = |family: i32| u16::try_from(family).unwrap_or(0).to_ne_bytes();
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend(family(libc::AF_INET));
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend(family(libc::AF_INET6));
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_ne_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// An address of 4 or 16 bytes.
#[must_use]
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => at::<4>(bytes, 0).map(IpAddr::from),
        16 => at::<16>(bytes, 0).map(IpAddr::from),
        _ => None,
    }
}

/// The same address as IPv4 where it is one that is mapped into IPv6.
#[must_use]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddrV4::new(v4, v6.port()).into(),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// As people write it.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    decode(bytes).map_or_else(|| "an address".into(), |address| address.to_string())
}

fn at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        let mut v4 = vec![2, 0, 0, 80, 127, 0, 0, 1];
        v4.extend([0; 8]);
        assert_eq!(show(&v4), "127.0.0.1:80");
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend([0; 20]);
        assert_eq!(show(&v6), "[::]:80");
        for bytes in [v4, v6] {
            assert_eq!(encode(decode(&bytes).unwrap()), bytes);
        }
    }
}
