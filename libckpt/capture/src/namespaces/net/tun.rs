//! TUN and TAP interfaces, which go with the descriptors of them.
use super::link::{self, Link};
use super::{PER_INTERFACE, is_chosen, is_permanent, refused, settings};
use crate::error::CaptureResult;
use ckpt_image::record::{FileKindV1, LinkV1, OpenFileV1, TunInterfaceV1};
use ckpt_sys::ethtool;
use ckpt_sys::rtnetlink::{self, Table};
use ckpt_sys::tun::flag;

/// IFLA_* and RTA_* of include/uapi/linux/if_link.h and rtnetlink.h.
const MASTER: u16 = 10;
const INFO: u16 = 18;
const INFO_DATA: u16 = 2;
const TUN_OWNER: u16 = 1;
const TUN_GROUP: u16 = 2;
const TUN_TYPE: u16 = 3;
const TUN_PACKET_INFORMATION: u16 = 4;
const TUN_PERSIST: u16 = 6;
const ROUTE_INTERFACE: u16 = 4;
/// ARPHRD_ETHER and ARPHRD_NONE: the hardware types that TAP and TUN interfaces begin with.
const HARDWARE: [(u16, u16); 2] = [(flag::TAP, 1), (flag::TUN, 0xfffe)];
/// Names of features and the TUN_F_* that they come from: CSUM, TSO4, TSO6, TSO_ECN, USO4 with USO6, UDP_TUNNEL_GSO, UDP_TUNNEL_GSO_CSUM.
const OFFLOADS: [(&str, u32); 7] = [
    ("tx-checksum-ip-generic", 0x01),
    ("tx-tcp-segmentation", 0x02),
    ("tx-tcp6-segmentation", 0x04),
    ("tx-tcp-ecn-segmentation", 0x08),
    ("tx-udp-segmentation", 0x60),
    ("tx-udp_tnl-segmentation", 0x80),
    ("tx-udp_tnl-csum-segmentation", 0x100),
];

/// A TUN or TAP interface of this thread's network namespace.
#[derive(Debug, Default)]
pub(crate) struct Tun {
    /// All but what only a descriptor tells.
    pub(crate) interface: TunInterfaceV1,
    /// Packets come without `struct tun_pi` (IFF_NO_PI).
    pub(crate) plain: bool,
    /// It has another hardware type than it began with (TUNSETLINK).
    pub(crate) retyped: bool,
}

/// Reads the interface called `name`; None: there is none, or of another kind.
pub(crate) fn interface(name: &str) -> CaptureResult<Option<Tun>> {
    let messages = Table::Links.dump()?;
    let links: Vec<_> = messages.iter().filter_map(|message| Link::parse(message)).collect();
    let Some(link) = links.iter().find(|link| link.name == name && link.kind == "tun") else {
        return Ok(None);
    };
    let number = |kind: u16| {
        let value = link.setting(kind)?;
        Some(u32::from_ne_bytes(value.try_into().ok()?))
    };
    let byte = |kind: u16| link.setting(kind).and_then(|value| value.first().copied()).unwrap_or(0);
    let master = link.number(MASTER).and_then(|master| links.iter().find(|link| link.index == master));
    let of_it = |messages: Vec<Vec<u8>>, index: fn(&[u8]) -> Option<u32>| -> Vec<Vec<u8>> {
        messages.into_iter().filter(|message| index(message) == Some(link.index)).collect()
    };
    let routes = Table::Routes.dump()?.into_iter().filter(|message| is_chosen(message)).collect();
    let neighbours = Table::Neighbours.dump()?.into_iter().filter(|message| is_permanent(message)).collect();
    let features = ethtool::features(name)?;
    let on = OFFLOADS.iter().filter(|(feature, _)| features.iter().any(|name| name == feature));
    let interface = TunInterfaceV1 {
        name: name.to_owned(),
        index: link.index,
        persistent: byte(TUN_PERSIST) != 0,
        up: link.is_up(),
        owner: number(TUN_OWNER),
        group: number(TUN_GROUP),
        offloads: on.fold(0, |bits, (_, bit)| bits | bit),
        master: master.map(|master| master.name.clone()),
        attributes: link.plain_attributes(),
        addresses: of_it(Table::Addresses.dump()?, link::of_address),
        neighbours: of_it(neighbours, link::of_neighbour),
        routes: of_it(routes, of_route),
        sysctls: PER_INTERFACE
            .iter()
            .flat_map(|directory| settings(&format!("{directory}/{name}")))
            .collect(),
        ..TunInterfaceV1::default()
    };
    let kind = u16::from(byte(TUN_TYPE));
    let retyped = HARDWARE.iter().any(|(of, hardware)| *of == kind && *hardware != link.hardware);
    Ok(Some(Tun { interface, plain: byte(TUN_PACKET_INFORMATION) == 0, retyped }))
}

/// The interface of a route.
fn of_route(message: &[u8]) -> Option<u32> {
    let rest = message.get(Table::Routes.head()..)?;
    Some(u32::from_ne_bytes(rtnetlink::attribute(rest, ROUTE_INTERFACE)?.try_into().ok()?))
}

/// Refuses interfaces of a network namespace of the job that a process outside of the job has: they would come back without it. `files`: the job's
/// descriptors that belong to the namespace.
pub(crate) fn check_held<'a>(
    root: i32,
    links: &[LinkV1],
    files: impl Iterator<Item = &'a OpenFileV1>,
) -> CaptureResult<()> {
    let of = |file: &'a OpenFileV1| match &file.kind {
        FileKindV1::Tun(tun) => tun.queue.as_ref().map(|queue| queue.interface.name.as_str()),
        _ => None,
    };
    let held: Vec<&str> = files.filter_map(of).collect();
    let stays = |link: &LinkV1| {
        let data = rtnetlink::attribute(rtnetlink::attribute(&link.attributes, INFO)?, INFO_DATA)?;
        Some(*rtnetlink::attribute(data, TUN_PERSIST)?.first()? != 0)
    };
    let lost = |link: &&LinkV1| {
        link.kind == "tun" && stays(link) != Some(true) && !held.contains(&link.name.as_str())
    };
    let Some(link) = links.iter().find(lost) else { return Ok(()) };
    Err(refused(
        root,
        format!("network interface {} (tun) of its network namespace", link.name),
        "a process outside of the job has its other end (/dev/net/tun)",
        "Protect a process that both descend from (ckpt attach), or give the namespace a name (ip netns), which is kept".into(),
    ))
}
