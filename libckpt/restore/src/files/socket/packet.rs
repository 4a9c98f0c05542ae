//! Packets made by hand, from whatever source, for sockets of this machine.
use crate::error::{RestoreError, RestoreResult};
use ckpt_sys::socket::{self, Attached};
use ckpt_sys::{SysError, SysResult, nftables};
use etherparse::{IpHeaders, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

/// Hop limit of a packet whose own is not known.
const HOP_LIMIT: u8 = 64;

/// Where a packet comes from and goes to, and what its IP header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope {
    /// Source. It need not be an address of this machine.
    pub(super) from: SocketAddr,
    /// Destination. The caller sees to it that it is an address of this machine.
    pub(super) to: SocketAddr,
    /// Time to live or hop limit.
    pub(super) hop_limit: Option<u8>,
    /// Type of service or traffic class.
    pub(super) traffic_class: u8,
}

/// Delivers packets, through raw sockets: what is sent to the machine itself keeps the route that it was sent by, and its source is
/// not looked at again when it arrives.
#[derive(Debug, Default)]
pub(super) struct Postman {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
}

impl Postman {
    /// Delivers a UDP datagram.
    pub(super) fn udp(&mut self, envelope: &Envelope, data: &[u8]) -> RestoreResult<()> {
        let mut packet = Vec::with_capacity(data.len() + 64);
        let built = builder(envelope)?.udp(envelope.from.port(), envelope.to.port());
        built.write(&mut packet, data).map_err(|error| unfit(envelope, &error))?;
        Ok(self.send(envelope, &packet)?)
    }

    /// Delivers the end of a TCP stream, past the filter that holds the connection still.
    pub(super) fn fin(
        &mut self,
        envelope: &Envelope,
        sequence: u32,
        acknowledged: u32,
        window: u16,
    ) -> RestoreResult<()> {
        let mut packet = Vec::with_capacity(64);
        let built = builder(envelope)?.tcp(envelope.from.port(), envelope.to.port(), sequence, window);
        let built = built.fin().ack(acknowledged);
        built.write(&mut packet, &[]).map_err(|error| unfit(envelope, &error))?;
        Ok(self.send(envelope, &packet)?)
    }

    fn send(&mut self, envelope: &Envelope, packet: &[u8]) -> SysResult<()> {
        let (slot, domain) = match envelope.to {
            SocketAddr::V4(_) => (&mut self.v4, libc::AF_INET),
            SocketAddr::V6(_) => (&mut self.v6, libc::AF_INET6),
        };
        let raw = match slot {
            Some(raw) => raw,
            // IPPROTO_RAW: the IP header is ours.
            None => {
                let raw = slot.insert(socket::new(domain, libc::SOCK_RAW, libc::IPPROTO_RAW)?);
                let mark = nftables::MARK.cast_signed();
                socket::set_int_option(raw.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark)?;
                raw
            }
        };
        let mut to = envelope.to;
        to.set_port(0);
        let to = ckpt_sys::sockaddr::encode(to);
        socket::send(raw.as_fd(), packet, &Attached { to: &to, ..Attached::default() }).map(drop)
    }
}

fn builder(envelope: &Envelope) -> RestoreResult<etherparse::PacketBuilderStep<IpHeaders>> {
    let hop_limit = envelope.hop_limit.unwrap_or(HOP_LIMIT);
    let ip = match (envelope.from.ip(), envelope.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header =
                Ipv4Header::new(0, hop_limit, etherparse::IpNumber(0), from.octets(), to.octets())
                    .map_err(|error| unfit(envelope, &error))?;
            header.dscp = etherparse::IpDscp::try_new(envelope.traffic_class >> 2)
                .map_err(|error| unfit(envelope, &error))?;
            header.ecn = etherparse::IpEcn::try_new(envelope.traffic_class & 3)
                .map_err(|error| unfit(envelope, &error))?;
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                traffic_class: envelope.traffic_class,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: etherparse::IpNumber(0),
                hop_limit,
                source: from.octets(),
                destination: to.octets(),
            };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => return Err(unfit(envelope, &"its addresses are of two families")),
    };
    Ok(PacketBuilder::ip(ip))
}

fn unfit(envelope: &Envelope, reason: &dyn std::fmt::Display) -> RestoreError {
    let what = format!("a packet from {} to {}", envelope.from, envelope.to);
    SysError::new("build", what, std::io::Error::other(reason.to_string())).into()
}
