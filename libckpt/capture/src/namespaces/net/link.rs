//! Network interfaces.
use super::refused;
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{LinkV1, OutsideLinkV1};
use ckpt_sys::rtnetlink::{self, Table};

/// Kinds that are made again.
const KINDS: [&str; 20] = [
    "veth",
    "dummy",
    "bridge",
    "vlan",
    "macvlan",
    "tun",
    "ifb",
    "vxlan",
    "geneve",
    "ipvlan",
    "vrf",
    "nlmon",
    "ipip",
    "sit",
    "ip6tnl",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "vti",
];
/// What the kernel sets up by itself in every namespace, down: tunnels to anywhere.
const FALLBACKS: [&str; 8] = ["tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip6gre0", "ip_vti0"];
/// IFLA_*, IFA_* and IFF_* of include/uapi/linux/if_link.h, if_addr.h and if.h.
const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5;
const MASTER: u16 = 10;
const QUEUE: u16 = 13;
const INFO: u16 = 18;
const ALIAS: u16 = 20;
const PEER_NAMESPACE: u16 = 37;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
/// IFLA_BR_* that tell what a bridge does, and do not say what it is to do: its identity, its timers, who asks, what it has learned.
const BRIDGE_STATE: [std::ops::RangeInclusive<u16>; 3] = [10..=19, 21..=21, 47..=48];
const BRIDGE_OPTIONS: u16 = 46;
/// IFLA_MACVLAN_MODE and _FLAGS.
const MACVLAN_SETTINGS: [u16; 2] = [1, 2];
const VLAN_FILTERING: u16 = 7;
const VXLAN_TTL_INHERIT: u16 = 28;
const VXLAN_RESERVED_BITS: u16 = 33;
const UP: u32 = 1;
const LOOPBACK: u32 = 8;
/// IFA_F_MANAGETEMPADDR and IFA_F_PERMANENT are of addresses that somebody gave; others come and go by themselves.
const PERMANENT: u32 = 0x80;
const ADDRESS_FLAGS: u16 = 8;
/// IFA_PROTO, and IFAPROT_KERNEL_LO, _RA and _LL: addresses that the kernel gives.
const ADDRESS_BY: u16 = 11;
const BY_KERNEL: [u8; 3] = [1, 2, 3];

/// What is known of the network namespace that a save is asked for in.
#[derive(Debug, Default)]
pub(in crate::namespaces) struct Outer {
    /// Where the job's network namespace is mounted there.
    pub(in crate::namespaces) path: Option<Vec<u8>>,
    links: Vec<Vec<u8>>,
    addresses: Vec<Vec<u8>>,
}

impl Outer {
    /// Of the one that this process is in, and the namespace of process `pid`.
    pub(in crate::namespaces) fn of(pid: i32) -> CaptureResult<Self> {
        let path = super::mounted_at(pid)?;
        Ok(Self { path, links: Table::Links.dump()?, addresses: Table::Addresses.dump()? })
    }
}

/// A message of an interface, read.
pub(super) struct Link<'a> {
    pub(super) index: u32,
    /// ARPHRD_*.
    pub(super) hardware: u16,
    flags: u32,
    pub(super) name: String,
    pub(super) kind: String,
    rest: &'a [u8],
}

impl<'a> Link<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let rest = message.get(Table::Links.head()..)?;
        let info = rtnetlink::attribute(rest, INFO).unwrap_or_default();
        Some(Self {
            index: word(message, 4)?,
            hardware: u16::from_ne_bytes([message[2], message[3]]),
            flags: word(message, 8)?,
            name: text(rtnetlink::attribute(rest, NAME)?),
            kind: rtnetlink::attribute(info, INFO_KIND).map(text).unwrap_or_default(),
            rest,
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.flags & UP != 0
    }

    /// Something that its driver tells (IFLA_INFO_DATA).
    pub(super) fn setting(&self, attribute: u16) -> Option<&'a [u8]> {
        let info = rtnetlink::attribute(self.rest, INFO)?;
        rtnetlink::attribute(rtnetlink::attribute(info, INFO_DATA)?, attribute)
    }

    pub(super) fn number(&self, attribute: u16) -> Option<u32> {
        word(rtnetlink::attribute(self.rest, attribute)?, 0)
    }

    /// What interfaces of all kinds have.
    pub(super) fn plain_attributes(&self) -> Vec<u8> {
        let mut made = Vec::new();
        for kind in [NAME, ADDRESS, MTU, QUEUE, ALIAS] {
            if let Some(value) = rtnetlink::attribute(self.rest, kind) {
                rtnetlink::push(&mut made, kind, value);
            }
        }
        made
    }

    /// The attributes that make it again, but for those that only an interface that is there can have.
    fn attributes(&self) -> Vec<u8> {
        let mut made = self.plain_attributes();
        // A veth pair has its other end there.
        if self.kind != "veth" {
            let info = rtnetlink::attribute(self.rest, INFO).unwrap_or_default();
            if let Some(lower) = rtnetlink::attribute(self.rest, LINK) {
                rtnetlink::push(&mut made, LINK, lower);
            }
            let mut again = Vec::new();
            if let Some(kind) = rtnetlink::attribute(info, INFO_KIND) {
                rtnetlink::push(&mut again, INFO_KIND, kind);
            }
            if let Some(data) = rtnetlink::attribute(info, INFO_DATA) {
                let is_bridge = self.kind == "bridge";
                let mut settings = Vec::new();
                for (kind, value) in rtnetlink::attributes(data) {
                    if self.kind == "macvlan" && !MACVLAN_SETTINGS.contains(&kind) {
                        continue;
                    }
                    // What is used is not reserved; the kernel tells the rest, and takes no more than that.
                    if self.kind == "vxlan" && kind == VXLAN_RESERVED_BITS {
                        continue;
                    }
                    // Told as a number, taken as a flag.
                    if self.kind == "vxlan" && kind == VXLAN_TTL_INHERIT {
                        if value != [0] {
                            rtnetlink::push(&mut settings, kind, &[]);
                        }
                        continue;
                    }
                    // A kernel without VLANs in bridges does not even take a no.
                    if is_bridge && kind == VLAN_FILTERING && value == [0] {
                        continue;
                    }
                    if is_bridge && BRIDGE_STATE.iter().any(|state| state.contains(&kind)) {
                        continue;
                    }
                    if is_bridge && kind == BRIDGE_OPTIONS {
                        // struct br_boolopt_multi: values, and which of them count. A new bridge has none set, and kernels refuse to be told of some.
                        let set = value.get(..4).unwrap_or_default();
                        rtnetlink::push(&mut settings, kind, &[set, set].concat());
                    } else {
                        rtnetlink::push(&mut settings, kind, value);
                    }
                }
                rtnetlink::push(&mut again, INFO_DATA, &settings);
            }
            rtnetlink::push(&mut made, INFO, &again);
        }
        made
    }
}

/// The interfaces of this process's network namespace, by rising number.
pub(super) fn capture(root: i32, outer: &Outer) -> CaptureResult<Vec<LinkV1>> {
    let messages = Table::Links.dump()?;
    let links: Vec<_> = messages.iter().filter_map(|message| Link::parse(message)).collect();
    let mut found = Vec::new();
    for link in &links {
        let is_loopback = link.flags & LOOPBACK != 0;
        let known = KINDS.contains(&link.kind.as_str());
        // What the kernel sets up in every namespace where the drivers are built in is there again, and down.
        let is_fallback = FALLBACKS.contains(&link.name.as_str());
        if !is_loopback && (!known || is_fallback) && link.flags & UP == 0 {
            continue;
        }
        // A VLAN or the like on an interface of another namespace.
        let is_on_other = link.kind != "veth" && rtnetlink::attribute(link.rest, PEER_NAMESPACE).is_some();
        if !is_loopback && (!known || is_on_other) {
            return Err(unknown(root, link));
        }
        let outside = if link.kind == "veth" { other_end(root, link, &links, outer)? } else { None };
        found.push(LinkV1 {
            index: link.index,
            name: link.name.clone(),
            kind: if is_loopback { String::new() } else { link.kind.clone() },
            up: link.is_up(),
            master: link.number(MASTER).unwrap_or(0),
            attributes: pair(link.attributes(), link, outside.is_none()),
            outside,
        });
    }
    found.sort_by_key(|link| link.index);
    Ok(found)
}

/// Of an end of a veth pair whose other end is in the namespace, too: with the number of that.
fn pair(mut attributes: Vec<u8>, link: &Link<'_>, within: bool) -> Vec<u8> {
    if link.kind == "veth"
        && within
        && let Some(peer) = rtnetlink::attribute(link.rest, LINK)
    {
        rtnetlink::push(&mut attributes, LINK, peer);
    }
    attributes
}

fn unknown(root: i32, link: &Link<'_>) -> CaptureError {
    let Link { name, kind, .. } = link;
    let kind = if kind.is_empty() { "hardware" } else { kind };
    refused(
        root,
        format!("network interface {name} ({kind}) of its network namespace"),
        "interfaces of this kind cannot be made again",
        format!(
            "Take it down before saving (ip link set {name} down), or give the namespace a name (ip netns), which is kept"
        ),
    )
}

/// The other end of a veth pair that is outside; None: it is in the job's namespace.
fn other_end(
    root: i32,
    link: &Link<'_>,
    links: &[Link<'_>],
    outer: &Outer,
) -> CaptureResult<Option<OutsideLinkV1>> {
    let peer = link.number(LINK).unwrap_or(0);
    let is_other = |other: &Link<'_>| {
        other.index == peer && other.kind == "veth" && other.number(LINK) == Some(link.index)
    };
    if rtnetlink::attribute(link.rest, PEER_NAMESPACE).is_none() && links.iter().any(is_other) {
        return Ok(None);
    }
    let outer_links: Vec<_> = outer.links.iter().filter_map(|message| Link::parse(message)).collect();
    let Some(other) = outer_links.iter().find(|other| is_other(other)) else {
        return Err(refused(
            root,
            format!("network interface {} (veth) of its network namespace", link.name),
            "its other end is neither in that namespace nor in ckpt's",
            "Run ckpt where the other end is, or give the namespace a name (ip netns), which is kept".into(),
        ));
    };
    let master = other.number(MASTER).and_then(|master| outer_links.iter().find(|link| link.index == master));
    let addresses = outer.addresses.iter().filter(|message| of_address(message) == Some(other.index));
    Ok(Some(OutsideLinkV1 {
        name: other.name.clone(),
        up: other.is_up(),
        master: master.map(|master| master.name.clone()),
        attributes: other.attributes(),
        addresses: addresses.cloned().collect(),
    }))
}

/// Those messages that are of one of the interfaces, as `index` tells.
pub(super) fn of(
    messages: Vec<Vec<u8>>,
    links: &[LinkV1],
    index: impl Fn(&[u8]) -> Option<u32>,
) -> Vec<Vec<u8>> {
    let is_known =
        |message: &Vec<u8>| index(message).is_some_and(|index| links.iter().any(|link| link.index == index));
    messages.into_iter().filter(is_known).collect()
}

/// The interface of a permanent address that somebody gave.
pub(super) fn of_address(message: &[u8]) -> Option<u32> {
    let rest = message.get(Table::Addresses.head()..)?;
    let flags = rtnetlink::attribute(rest, ADDRESS_FLAGS).and_then(|bytes| word(bytes, 0));
    let flags = flags.unwrap_or_else(|| u32::from(message[2]));
    let by = rtnetlink::attribute(rest, ADDRESS_BY).and_then(|bytes| bytes.first().copied()).unwrap_or(0);
    (flags & PERMANENT != 0 && !BY_KERNEL.contains(&by)).then(|| word(message, 4)).flatten()
}

/// The interface of a neighbour.
pub(super) fn of_neighbour(message: &[u8]) -> Option<u32> {
    word(message, 4)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}
