//! Network interfaces, under the names and numbers that they had.
use super::{made, tun};
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{LinkV1, OutsideLinkV1};
use ckpt_sys::SysError;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::rtnetlink::{self, Table};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

/// IFLA_*, VETH_INFO_*, IFA_*, RTA_* and IFF_* of include/uapi/linux.
const NAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5;
const MASTER: u16 = 10;
const INFO: u16 = 18;
const NAMESPACE: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const ADDRESS_FLAGS: u16 = 8;
const NO_DETECTION: u32 = 2;
const CACHE_INFO: u16 = 12;
const UP: u32 = 1;
const NESTED: u16 = 0x8000;

/// Makes the interfaces of this process's network namespace; `outer` is the one that other ends of theirs are in.
pub(super) fn make(links: &[LinkV1], outer: Option<&File>) -> RestoreResult<()> {
    let mut made_here: Vec<u32> = Vec::new();
    for link in links.iter().filter(|link| !link.kind.is_empty()) {
        if made_here.contains(&link.index) {
            continue;
        }
        made_here.push(link.index);
        if link.kind == "tun" {
            tun::make(link).map_err(|error| refused(link, &error))?;
            continue;
        }
        let peer = attribute_word(&link.attributes, LINK).filter(|_| link.kind == "veth");
        let peer = peer.and_then(|index| links.iter().find(|other| other.index == index));
        made_here.extend(peer.map(|peer| peer.index));
        Table::Links.make(&request(link, peer, outer)?).map_err(|error| refused(link, &error))?;
    }
    for link in links {
        let mut message = head(link.index, if link.up { UP } else { 0 }, UP);
        if link.master != 0 {
            rtnetlink::push(&mut message, MASTER, &link.master.to_ne_bytes());
        }
        if link.kind.is_empty() {
            rtnetlink::push(
                &mut message,
                MTU,
                &attribute_word(&link.attributes, MTU).unwrap_or(65_536).to_ne_bytes(),
            );
        }
        Table::Links.change(&message)?;
    }
    let outside = links.iter().filter_map(|link| link.outside.as_ref());
    let outside: Vec<_> = outside.collect();
    let Some(outer) = outer.filter(|_| !outside.is_empty()) else { return Ok(()) };
    let connect_all = || outside.iter().try_for_each(|link| connect(link));
    namespace::within(Namespace::Net, Some(outer.as_fd()), connect_all)
}

/// struct ifinfomsg: family, pad, type, index, flags, change.
pub(super) fn head(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend([index, flags, change].iter().flat_map(|word| word.to_ne_bytes()));
    message
}

fn request(link: &LinkV1, peer: Option<&LinkV1>, outer: Option<&File>) -> RestoreResult<Vec<u8>> {
    let mut message = head(link.index, 0, 0);
    if link.kind != "veth" {
        message.extend_from_slice(&link.attributes);
        return Ok(message);
    }
    let mut other = Vec::new();
    match (peer, &link.outside, outer) {
        (Some(peer), _, _) => {
            other = head(peer.index, 0, 0);
            other.extend(without(&peer.attributes, LINK));
        }
        (None, Some(outside), Some(outer)) => {
            other = head(0, 0, 0);
            other.extend_from_slice(&outside.attributes);
            rtnetlink::push(&mut other, NAMESPACE, &outer.as_raw_fd().to_ne_bytes());
        }
        _ => {}
    }
    message.extend(without(&link.attributes, LINK));
    let (mut info, mut data) = (Vec::new(), Vec::new());
    rtnetlink::push(&mut data, VETH_PEER | NESTED, &other);
    rtnetlink::push(&mut info, INFO_KIND, b"veth\0");
    rtnetlink::push(&mut info, INFO_DATA | NESTED, &data);
    rtnetlink::push(&mut message, INFO | NESTED, &info);
    Ok(message)
}

pub(super) fn without(attributes: &[u8], kind: u16) -> Vec<u8> {
    let mut kept = Vec::new();
    for (found, value) in rtnetlink::attributes(attributes).filter(|(found, _)| *found != kind) {
        rtnetlink::push(&mut kept, found, value);
    }
    kept
}

pub(super) fn attribute_word(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_ne_bytes(rtnetlink::attribute(attributes, kind)?.try_into().ok()?))
}

fn refused(link: &LinkV1, error: &SysError) -> RestoreError {
    let other = link.outside.as_ref().map(|outside| outside.name.as_str());
    match (error.errno(), other) {
        (Some(Errno::EEXIST), Some(other)) => RestoreError::Machine {
            reason: format!(
                "network interface {other}, the other end of the job's {}, cannot have its name: another has it",
                link.name
            ),
            remedy: format!("Rename that or take it away (ip link del {other}) and restore again"),
        },
        _ => RestoreError::Machine {
            reason: format!(
                "network interface {} ({}) of the job cannot be made: {error}",
                link.name, link.kind
            ),
            remedy: format!("Load its driver (modprobe {}), or run ckpt as root", link.kind),
        },
    }
}

/// Gives the outer end of a veth pair, in whose namespace this process is, what it had.
fn connect(outside: &OutsideLinkV1) -> RestoreResult<()> {
    let links = Table::Links.dump()?;
    let Some(own) = index_of(&links, &outside.name) else { return Ok(()) };
    let mut message = head(own, if outside.up { UP } else { 0 }, UP);
    if let Some(master) = &outside.master {
        match index_of(&links, master) {
            Some(master) => rtnetlink::push(&mut message, MASTER, &master.to_ne_bytes()),
            None => tracing::warn!(
                link = outside.name,
                master,
                "it is no port any more: there is no such interface"
            ),
        }
    }
    Table::Links.change(&message)?;
    for address in &outside.addresses {
        let mut address = without_detection(address);
        // struct ifaddrmsg: the number of the interface is behind four bytes.
        address[4..8].copy_from_slice(&own.to_ne_bytes());
        made(Table::Addresses.make(&address))?;
    }
    Ok(())
}

/// The number of the interface called `name` among these messages.
pub(super) fn index_of(links: &[Vec<u8>], name: &str) -> Option<u32> {
    let named = |message: &&Vec<u8>| {
        let rest = message.get(Table::Links.head()..).unwrap_or_default();
        rtnetlink::attribute(rest, NAME)
            .is_some_and(|found| found.strip_suffix(b"\0") == Some(name.as_bytes()))
    };
    let message = links.iter().find(named)?;
    Some(u32::from_ne_bytes(message.get(4..8)?.try_into().ok()?))
}

/// An address that is not looked for on the network before it is used: it was.
pub(super) fn without_detection(message: &[u8]) -> Vec<u8> {
    let head = Table::Addresses.head().min(message.len());
    let flags = attribute_word(&message[head..], ADDRESS_FLAGS).unwrap_or(0);
    let mut made = message[..head].to_vec();
    made.extend(without(&message[head..], ADDRESS_FLAGS));
    rtnetlink::push(&mut made, ADDRESS_FLAGS, &(flags | NO_DETECTION).to_ne_bytes());
    made
}

/// A route as it is asked for: what the kernel counts is not.
pub(super) fn route(message: &[u8]) -> Vec<u8> {
    let head = Table::Routes.head().min(message.len());
    let mut made = message[..head].to_vec();
    made.extend(without(&message[head..], CACHE_INFO));
    made
}
