//! TUN and TAP interfaces: rtnetlink does not make them, descriptors of /dev/net/tun do.
use super::link::{self, attribute_word, head, without};
use super::{add_routes, made};
use crate::error::RestoreResult;
use crate::namespaces::set_sysctls;
use ckpt_image::record::{LinkV1, TunInterfaceV1};
use ckpt_sys::rtnetlink::{self, Table};
use ckpt_sys::tun::{self, Setting, flag};
use ckpt_sys::{SysError, SysResult, descriptor};
use std::os::fd::{AsFd, OwnedFd};

const DEVICE: &[u8] = b"/dev/net/tun";
/// IFLA_*, IFLA_INFO_*, IFLA_TUN_*, RTA_* and IFF_* of include/uapi/linux.
const NAME: u16 = 3;
const MASTER: u16 = 10;
const INFO: u16 = 18;
const INFO_DATA: u16 = 2;
const OWNER: u16 = 1;
const GROUP: u16 = 2;
const TYPE: u16 = 3;
const PACKET_INFORMATION: u16 = 4;
const VNET_HEADER: u16 = 5;
const MULTI_QUEUE: u16 = 7;
const ROUTE_INTERFACE: u16 = 4;
const UP: u32 = 1;

/// Makes an interface of a network namespace that this process is in. It stays until its descriptors are there.
pub(super) fn make(link: &LinkV1) -> SysResult<()> {
    let info = rtnetlink::attribute(&link.attributes, INFO).unwrap_or_default();
    let data = rtnetlink::attribute(info, INFO_DATA).unwrap_or_default();
    let byte = |kind| rtnetlink::attribute(data, kind).and_then(|value| value.first().copied()).unwrap_or(0);
    let mut flags = u16::from(byte(TYPE));
    for (is_set, bit) in [
        (byte(PACKET_INFORMATION) == 0, flag::NO_PI),
        (byte(VNET_HEADER) != 0, flag::VNET_HDR),
        (byte(MULTI_QUEUE) != 0, flag::MULTI_QUEUE),
    ] {
        flags |= if is_set { bit } else { 0 };
    }
    let device = descriptor::open(DEVICE, libc::O_RDWR | libc::O_CLOEXEC, 0)
        .map_err(|errno| SysError::new("open", String::from_utf8_lossy(DEVICE), errno))?;
    let fd = device.as_fd();
    tun::set_index(fd, link.index)?;
    tun::attach(fd, &link.name, flags)?;
    tun::set(fd, Setting::Persistent, 1)?;
    for (setting, kind) in [(Setting::Owner, OWNER), (Setting::Group, GROUP)] {
        if let Some(id) = attribute_word(data, kind) {
            tun::set(fd, setting, id)?;
        }
    }
    change(link.index, &link.attributes)
}

/// Sets what interfaces of all kinds have.
fn change(index: u32, attributes: &[u8]) -> SysResult<()> {
    let mut message = head(index, 0, 0);
    message.extend(without(&without(attributes, INFO), NAME));
    Table::Links.change(&message)
}

/// The number of the interface called `name` in this thread's network namespace.
pub(crate) fn find(name: &str) -> SysResult<Option<u32>> {
    Ok(link::index_of(&Table::Links.dump()?, name))
}

/// Gives an interface that `device` has just made in this thread's network namespace what goes with it.
pub(crate) fn furnish(device: &OwnedFd, interface: &TunInterfaceV1) -> RestoreResult<()> {
    let fd = device.as_fd();
    let TunInterfaceV1 { owner, group, persistent, name, .. } = interface;
    for (setting, id) in [(Setting::Owner, owner), (Setting::Group, group)] {
        if let Some(id) = id {
            tun::set(fd, setting, *id)?;
        }
    }
    tun::set(fd, Setting::Persistent, u32::from(*persistent))?;
    let links = Table::Links.dump()?;
    let Some(index) = link::index_of(&links, name) else { return Ok(()) };
    change(index, &interface.attributes)?;
    set_sysctls(&interface.sysctls);
    let mut message = head(index, if interface.up { UP } else { 0 }, UP);
    if let Some(master) = &interface.master {
        match link::index_of(&links, master) {
            Some(master) => rtnetlink::push(&mut message, MASTER, &master.to_ne_bytes()),
            None => {
                tracing::warn!(link = name, master, "it is no port any more: there is no such interface");
            }
        }
    }
    Table::Links.change(&message)?;
    // struct ifaddrmsg and struct ndmsg: the number of the interface is behind four bytes.
    let on_it = |message: &Vec<u8>| {
        let mut message = message.clone();
        message[4..8].copy_from_slice(&index.to_ne_bytes());
        message
    };
    for address in &interface.addresses {
        made(Table::Addresses.make(&link::without_detection(&on_it(address))))?;
    }
    for neighbour in &interface.neighbours {
        made(Table::Neighbours.make(&on_it(neighbour)))?;
    }
    let routes: Vec<_> = interface.routes.iter().map(|route| route_through(route, index)).collect();
    add_routes(&routes)
}

/// The route through the interface with this number.
fn route_through(message: &[u8], index: u32) -> Vec<u8> {
    let head = Table::Routes.head().min(message.len());
    let mut route = message[..head].to_vec();
    route.extend(without(&message[head..], ROUTE_INTERFACE));
    rtnetlink::push(&mut route, ROUTE_INTERFACE, &index.to_ne_bytes());
    route
}
