//! Network namespaces: interfaces, addresses, routes, rules, permanent neighbours, nftables and settings.
use super::sysctls;
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::NetNamespaceV1;
use ckpt_sys::namespace::Namespace;
use ckpt_sys::proc::mounts;
use ckpt_sys::rtnetlink::Table;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

mod firewall;
mod link;
mod tracked;
mod tun;

pub(super) use link::Outer;
pub(crate) use tun::{Tun, check_held, interface as tun_interface};

/// Settings that programs and containers change.
const SYSCTLS: [&str; 11] = [
    "net/core/somaxconn",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/ping_group_range",
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv6/bindv6only",
];
/// Directories with settings of each interface, of `all` and of `default`.
const PER_INTERFACE: [&str; 4] = ["net/ipv4/conf", "net/ipv4/neigh", "net/ipv6/conf", "net/ipv6/neigh"];
/// RTPROT_KERNEL: a route that comes with an address.
const BY_KERNEL: u8 = 2;
/// RTM_F_CLONED.
const CACHED: u32 = 0x200;
const NUD_PERMANENT: u16 = 0x80;
/// FRA_PRIORITY.
const PRIORITY: u16 = 6;
/// Priorities of the rules that every namespace begins with.
const OWN_RULES: [u32; 3] = [0, 32_766, 32_767];

/// Where the network namespace of process `pid` is mounted in this process's mount namespace.
pub(super) fn mounted_at(pid: i32) -> CaptureResult<Option<Vec<u8>>> {
    let Some(link) = Namespace::Net.of(pid)? else { return Ok(None) };
    let link = link.into_os_string().into_vec();
    let found = mounts::own()?.into_iter().find(|mount| mount.fs_type == "nsfs" && mount.root == link);
    Ok(found.map(|mount| mount.point))
}

/// The namespace that this process and process `root` are in; `outer` is what is known of the one that the save was asked for in.
pub(super) fn capture(root: i32, outer: &Outer) -> CaptureResult<NetNamespaceV1> {
    if outer.path.is_some() {
        return Ok(NetNamespaceV1 { path: outer.path.clone(), ..NetNamespaceV1::default() });
    }
    let mut sysctls = sysctls(&SYSCTLS);
    let links = link::capture(root, outer)?;
    for directory in PER_INTERFACE {
        // Those of all interfaces first: a change of them changes the others.
        let names = links.iter().map(|link| link.name.as_str());
        for name in ["all", "default"].into_iter().chain(names) {
            sysctls.extend(settings(&format!("{directory}/{name}")));
        }
    }
    Ok(NetNamespaceV1 {
        path: None,
        addresses: link::of(Table::Addresses.dump()?, &links, link::of_address),
        neighbours: link::of(Table::Neighbours.dump()?, &links, |message| {
            link::of_neighbour(message).filter(|_| is_permanent(message))
        }),
        routes: Table::Routes.dump()?.into_iter().filter(|message| is_chosen(message)).collect(),
        rules: Table::Rules.dump()?.into_iter().filter(|message| is_added(message)).collect(),
        ruleset: firewall::ruleset(root)?,
        tracked: tracked::capture()?,
        links,
        sysctls,
    })
}

/// Whether a route is neither the kernel's own nor of a cache. struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags.
fn is_chosen(message: &[u8]) -> bool {
    let flags = message.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let protocol = message.get(5).copied();
    let multicast = message.first().is_some_and(|family| *family > 127);
    protocol.is_some_and(|protocol| protocol > BY_KERNEL) && flags & CACHED == 0 && !multicast
}

/// struct ndmsg: family, padding, interface, state.
fn is_permanent(message: &[u8]) -> bool {
    let state = message.get(8..10).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    state.is_some_and(|state| state & NUD_PERMANENT != 0)
}

fn is_added(message: &[u8]) -> bool {
    let rest = message.get(Table::Rules.head()..).unwrap_or_default();
    let priority = ckpt_sys::rtnetlink::attribute(rest, PRIORITY)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    !OWN_RULES.contains(&priority)
}

/// The settings in a directory below /proc/sys that can be read.
fn settings(directory: &str) -> Vec<(String, String)> {
    let path = Path::new("/proc/sys").join(directory);
    let Ok(entries) = fs::read_dir(&path) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let value = |name: &String| {
        let text = fs::read_to_string(path.join(name)).ok()?;
        // Written, it would begin anew; and an address that was never made is none.
        (!name.starts_with("stable_secret")).then(|| (format!("{directory}/{name}"), text.trim().to_owned()))
    };
    names.iter().filter_map(value).collect()
}

/// What keeps the namespace from being saved.
pub(super) fn refused(root: i32, object: String, reason: &str, remedy: String) -> CaptureError {
    CaptureError::unsupported(root, object, reason, remedy)
}
