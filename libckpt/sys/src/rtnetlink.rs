//! rtnetlink(7): the interfaces, addresses, routes, rules and neighbours of this thread's network namespace.
//!
//! A message is the structure of its kind (`struct ifinfomsg`, `ifaddrmsg`, `rtmsg`, `fib_rule_hdr`, `ndmsg`) with attributes behind it, in the
//! machine's byte order, as include/uapi/linux/rtnetlink.h has them. What the kernel tells of an object is mostly what it takes to make it.
use crate::error::SysResult;
use crate::netlink_request::{ACK, CREATE, DUMP, EXCLUSIVE, exchange, u16_at};

const ROUTE: (i32, &str) = (libc::NETLINK_ROUTE, "rtnetlink");
/// NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const FLAGS: u16 = 0xc000;

/// What there is in a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Interfaces.
    Links,
    /// Addresses.
    Addresses,
    /// Routes of all tables.
    Routes,
    /// Neighbours.
    Neighbours,
    /// Rules of policy routing.
    Rules,
}

impl Table {
    /// RTM_NEW*; the number of RTM_GET* is two more.
    const fn kind(self) -> u16 {
        match self {
            Self::Links => 16,
            Self::Addresses => 20,
            Self::Routes => 24,
            Self::Neighbours => 28,
            Self::Rules => 32,
        }
    }

    /// Bytes of the structure of a message.
    #[must_use]
    pub const fn head(self) -> usize {
        match self {
            Self::Links => 16,
            Self::Addresses => 8,
            Self::Routes | Self::Neighbours | Self::Rules => 12,
        }
    }

    /// The messages of all that there is.
    pub fn dump(self) -> SysResult<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        let deliver = &mut |message: &[u8]| found.push(message.to_vec());
        exchange(ROUTE, self.kind() + 2, DUMP, &vec![0; self.head()], deliver)?;
        Ok(found)
    }

    /// Makes what `message` says. EEXIST: it is there.
    pub fn make(self, message: &[u8]) -> SysResult<()> {
        exchange(ROUTE, self.kind(), ACK | CREATE | EXCLUSIVE, message, &mut |_| {})
    }

    /// Changes what is there.
    pub fn change(self, message: &[u8]) -> SysResult<()> {
        exchange(ROUTE, self.kind(), ACK, message, &mut |_| {})
    }
}

/// The attributes of a message behind its structure: their types without flags, and their values.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !FLAGS, value))
    })
}

/// The value of one attribute.
#[must_use]
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Appends an attribute to a message.
pub fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let mut message = Vec::new();
        push(&mut message, 3, b"eth0\0");
        push(&mut message, 4 | 0x8000, &[1, 2, 3, 4]);
        assert_eq!(message.len() % 4, 0);
        let all: Vec<_> = attributes(&message).collect();
        assert_eq!(all, [(3, b"eth0\0".as_slice()), (4, [1, 2, 3, 4].as_slice())]);
        assert_eq!(attribute(&message, 5), None);
    }

    #[test]
    fn the_loopback_interface_is_told() {
        let links = Table::Links.dump().unwrap();
        let names = links.iter().filter_map(|link| attribute(&link[Table::Links.head()..], 3));
        assert!(names.into_iter().any(|name| name == b"lo\0"));
    }
}
