//! Multicast groups of sockets (RFC 3678), of IPv4 and IPv6 alike.
use crate::error::{SysError, SysResult};
use crate::proc;
use crate::socket::set_option;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_BLOCK_SOURCE: i32 = 43;
const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
const MCAST_MSFILTER: i32 = 48;
const MCAST_EXCLUDE: u32 = 0;
/// `struct sockaddr_storage`.
const NAME: usize = 128;
/// Offset of `gr_group` and `gf_group` behind the interface.
const GROUP: usize = 8;
/// Offsets of `gf_fmode`, `gf_numsrc` and `gf_slist` in `struct group_filter`.
const MODE: usize = GROUP + NAME;
const COUNT: usize = MODE + 4;
const LIST: usize = COUNT + 4;
/// Sources that are asked for at first.
const SOURCES: usize = 64;

/// A group that some socket of the machine has joined on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Index of the interface.
    pub index: u32,
    /// Its name.
    pub interface: String,
    /// Address of the group: 4 or 16 bytes.
    pub address: Vec<u8>,
}

/// Which senders a socket hears in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// All but `sources`; otherwise these alone.
    pub exclude: bool,
    /// Addresses: 4 or 16 bytes.
    pub sources: Vec<Vec<u8>>,
}

/// All groups that sockets in this thread's network namespace have joined (/proc/thread-self/net/igmp, igmp6).
pub fn groups() -> SysResult<Vec<Group>> {
    let mut groups = parse_igmp(&proc::read_own_text("net/igmp")?);
    // There is none where IPv6 is switched off.
    match proc::read_own_text("net/igmp6") {
        Ok(text) => groups.extend(parse_igmp6(&text)),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {}
        Err(error) => return Err(error),
    }
    Ok(groups)
}

/// A line for each interface, then one for each group, further in.
fn parse_igmp(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut interface = None;
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if line.starts_with(char::is_whitespace) {
            // The address as the machine's integer.
            let address = u32::from_str_radix(first, 16).ok().map(u32::to_ne_bytes);
            if let (Some(address), Some((index, name))) = (address, &interface) {
                groups.push(Group {
                    index: *index,
                    interface: String::clone(name),
                    address: address.to_vec(),
                });
            }
        } else {
            let name = words.next().map(|name| name.trim_end_matches(':').to_owned());
            interface = first.parse::<u32>().ok().zip(name);
        }
    }
    groups
}

fn parse_igmp6(text: &str) -> Vec<Group> {
    let group = |line: &str| {
        let mut words = line.split_whitespace();
        let (index, name, address) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
        let address = u128::from_str_radix(address, 16).ok()?.to_be_bytes().to_vec();
        Some(Group { index, interface: name.to_owned(), address })
    };
    text.lines().filter_map(group).collect()
}

/// Which senders a socket hears in a group; None: it is no member.
pub fn filter(fd: BorrowedFd<'_>, group: &Group) -> SysResult<Option<Filter>> {
    let mut room = SOURCES;
    loop {
        let mut value = request(group.index, &[&group.address]);
        value.resize(LIST + room * NAME, 0);
        value[COUNT..LIST].copy_from_slice(&u32::try_from(room).unwrap_or(0).to_ne_bytes());
        let mut len = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `value` is valid for `len` bytes.
        let outcome = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                level(&group.address),
                MCAST_MSFILTER,
                value.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if outcome != 0 {
            return match Errno::last() {
                Errno::EADDRNOTAVAIL | Errno::EINVAL | Errno::ENOPROTOOPT | Errno::ENODEV => Ok(None),
                errno => {
                    Err(SysError::new("getsockopt", format!("MCAST_MSFILTER on {}", group.interface), errno))
                }
            };
        }
        let word = |at: usize| {
            value.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        let count = usize::try_from(word(COUNT)).unwrap_or(0);
        if count > room {
            room = count;
            continue;
        }
        let names = value[LIST..].chunks_exact(NAME).take(count);
        let sources = names.map(|name| address_in(name, group.address.len())).collect();
        return Ok(Some(Filter { exclude: word(MODE) == MCAST_EXCLUDE, sources }));
    }
}

/// Joins a group.
pub fn join(fd: BorrowedFd<'_>, group: &Group, filter: &Filter) -> SysResult<()> {
    let level = level(&group.address);
    let (one, many) = if filter.exclude {
        (Some(MCAST_JOIN_GROUP), MCAST_BLOCK_SOURCE)
    } else {
        (None, MCAST_JOIN_SOURCE_GROUP)
    };
    if let Some(name) = one {
        set_option(fd, level, name, &request(group.index, &[&group.address]))?;
    }
    for source in &filter.sources {
        set_option(fd, level, many, &request(group.index, &[&group.address, source]))?;
    }
    Ok(())
}

fn level(address: &[u8]) -> i32 {
    if address.len() == 4 { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 }
}

/// `struct group_req` or `struct group_source_req`.
fn request(index: u32, addresses: &[&[u8]]) -> Vec<u8> {
    let mut request = vec![0; GROUP + addresses.len() * NAME];
    request[..4].copy_from_slice(&index.to_ne_bytes());
    for (name, address) in request[GROUP..].chunks_exact_mut(NAME).zip(addresses) {
        let (family, at) = if address.len() == 4 { (libc::AF_INET, 4) } else { (libc::AF_INET6, 8) };
        name[..2].copy_from_slice(&u16::try_from(family).unwrap_or(0).to_ne_bytes());
        name[at..at + address.len()].copy_from_slice(address);
    }
    request
}

fn address_in(name: &[u8], len: usize) -> Vec<u8> {
    let at = if len == 4 { 4 } else { 8 };
    name[at..at + len].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
    use std::os::fd::AsFd;

    #[test]
    fn a_joined_group_is_found_with_its_sources() {
        let group = |address: &[u8]| Group { index: 1, interface: "lo".into(), address: address.to_vec() };
        let v4 = |last| Ipv4Addr::new(127, 0, 0, last).octets().to_vec();
        let v6 = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets().to_vec();
        for (bind, group, sources) in [
            ("0.0.0.0:0", group(&[239, 7, 7, 7]), [v4(3), v4(9)]),
            ("[::]:0", group(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 7, 7).octets()), [v6(3), v6(9)]),
        ] {
            for exclude in [true, false] {
                let Ok(socket) = UdpSocket::bind(bind) else { continue };
                let other = UdpSocket::bind(bind).unwrap();
                let filter = Filter { exclude, sources: sources.to_vec() };
                if let Err(error) = join(socket.as_fd(), &group, &filter) {
                    assert!(bind.starts_with('['), "{error}"); // no IPv6 on lo
                    continue;
                }
                assert!(groups().unwrap().contains(&group));
                let found = super::filter(socket.as_fd(), &group).unwrap().unwrap();
                assert_eq!(found.exclude, exclude);
                assert!(
                    sources.iter().all(|source| found.sources.contains(source)) && found.sources.len() == 2
                );
                assert_eq!(super::filter(other.as_fd(), &group).unwrap(), None);
            }
        }
    }
}
