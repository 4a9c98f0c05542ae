//! Rings of AF_PACKET sockets. The kernel begins a new ring at its first frame (of version 3: block), and the program goes on where it was: so as many packets are
//! sent through the ring, over the loopback interface, until both are at the same. Then what was in the ring is put there.
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use crate::vma::describe;
use ckpt_image::record::{
    BackingV1, MmV1, OpenFileId, PacketRingV1, PacketSocketV1, SocketStateV1, SocketV1, TaskV1, VmaV1,
};
use ckpt_sys::packet_ring::{self, Direction, Mapped, Shape};
use ckpt_sys::socket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const SOL_PACKET: i32 = 263;
const PACKET_VERSION: i32 = 10;
/// TPACKET_V3.
const BLOCKS: i32 = 2;
/// A protocol for experiments (ETH_P_802_EX1), in the network's byte order.
const PROTOCOL: u16 = 0x88b5_u16.to_be();
/// Bytes of an Ethernet header.
const HEADER: usize = 14;
/// TP_STATUS_USER, and TP_STATUS_SEND_REQUEST.
const HANDED_OVER: u32 = 1;
/// Of a `struct tpacket_block_desc`: where the program's part begins, status, and number of packets.
const BLOCK_PRIVATE: usize = 4;
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
/// Where data to send begins in a frame of version 1 and 2, and where they say so.
const DATA: u16 = 32;
/// Bytes of a packet that goes through a ring.
const PACKET: usize = 60;
/// Most bytes of a packet that is to fill a block of version 3.
const LARGE: usize = 32 << 10;
/// The longest that a packet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a socket had to be bound for its rings.
pub(super) fn make(fd: BorrowedFd<'_>, packet: &PacketSocketV1) -> RestoreResult<bool> {
    let (receive, send) = (&packet.receive_ring, &packet.send_ring);
    for (ring, direction) in [(receive, Direction::Receive), (send, Direction::Send)] {
        if let Some(ring) = ring {
            packet_ring::make(fd, direction, &shape(ring))?;
        }
    }
    let bytes = |ring: &Option<PacketRingV1>| ring.as_ref().map_or(0, |ring| ring.memory.len());
    let (receive_bytes, all) = (bytes(receive), bytes(receive) + bytes(send));
    if all == 0 {
        return Ok(false);
    }
    let version = socket::int_option(fd, SOL_PACKET, PACKET_VERSION)?.unwrap_or(0);
    let mapped = Mapped::new(fd, all)?;
    let is_at_start = |ring: &Option<PacketRingV1>| ring.as_ref().is_none_or(|ring| ring.next == 0);
    let must_advance = !(is_at_start(receive) && is_at_start(send));
    if must_advance {
        let loopback = loopback()?;
        bind(fd, PROTOCOL, loopback)?;
        let way = Way { fd, mapped: &mapped, version, sender: sender(loopback)? };
        if let Some(ring) = receive {
            if version == BLOCKS { way.fill_blocks(ring)? } else { way.fill_frames(ring)? }
        }
        if let Some(ring) = send {
            way.send_frames(receive_bytes, ring)?;
        }
        packet_ring::reset_statistics(fd)?;
    }
    if let Some(ring) = receive {
        fill(&mapped, ring, version);
    }
    if let Some(ring) = send {
        mapped.write(receive_bytes, &ring.memory);
    }
    Ok(must_advance)
}

fn shape(ring: &PacketRingV1) -> Shape {
    let PacketRingV1 { block_size, blocks, frame_size, frames, retire_ms, private, features, .. } = *ring;
    Shape { block_size, blocks, frame_size, frames, retire_ms, private, features }
}

/// Puts what was in a ring there; of the block of version 3 that the kernel fills the program's part alone.
fn fill(mapped: &Mapped, ring: &PacketRingV1, version: i32) {
    if version != BLOCKS {
        return mapped.write(0, &ring.memory);
    }
    let size = usize::try_from(ring.block_size).unwrap_or(0).max(1);
    for (number, block) in ring.memory.chunks(size).enumerate() {
        let at = number * size;
        if Ok(number) != usize::try_from(ring.next) {
            mapped.write(at, block);
            continue;
        }
        let private = usize::try_from(mapped.word(at + BLOCK_PRIVATE)).unwrap_or(0);
        let len = usize::try_from(ring.private).unwrap_or(0);
        if let Some(bytes) = block.get(private..private + len) {
            mapped.write(at + private, bytes);
        }
    }
}

fn loopback() -> RestoreResult<u32> {
    nix::net::if_::if_nametoindex("lo").map_err(|_| not_through("there is no loopback interface"))
}

fn not_through(reason: &str) -> RestoreError {
    RestoreError::Machine {
        reason: format!("the ring of an AF_PACKET socket cannot be brought to where it was: {reason}"),
        remedy:
            "Set the loopback interface up (ip link set lo up), allow raw packets there, and restore again"
                .into(),
    }
}

/// Binds an AF_PACKET socket to an interface; to none without a protocol, it hears nothing.
pub(super) fn bind(fd: BorrowedFd<'_>, protocol: u16, interface: u32) -> RestoreResult<()> {
    // struct sockaddr_ll: family, protocol, interface; the rest is for sending.
    let mut name = u16::try_from(libc::AF_PACKET).unwrap_or(0).to_ne_bytes().to_vec();
    name.extend(protocol.to_ne_bytes());
    name.extend(interface.to_ne_bytes());
    name.resize(20, 0);
    Ok(socket::bind(fd, &name)?)
}

/// A socket that sends frames over the loopback interface, and hears none.
fn sender(loopback: u32) -> RestoreResult<OwnedFd> {
    let sender = socket::new(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    bind(sender.as_fd(), 0, loopback)?;
    Ok(sender)
}

/// The Ethernet header of packets that go through a ring.
fn header() -> Vec<u8> {
    let mut frame = vec![0; HEADER - 2];
    frame.extend(PROTOCOL.to_ne_bytes());
    frame
}

fn wait_until(what: impl Fn() -> bool) -> RestoreResult<()> {
    let begin = Instant::now();
    while !what() {
        if begin.elapsed() > PATIENCE {
            return Err(not_through("no packet comes through"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// A socket under construction, bound to the loopback interface.
struct Way<'a> {
    fd: BorrowedFd<'a>,
    mapped: &'a Mapped,
    version: i32,
    sender: OwnedFd,
}

impl Way<'_> {
    fn send(&self, bytes: usize) -> RestoreResult<()> {
        let mut frame = header();
        frame.resize(bytes, 0);
        socket::send(self.sender.as_fd(), &frame, &socket::Attached::default())
            .map_err(|error| not_through(&error.to_string()))?;
        Ok(())
    }

    fn fill_frames(&self, ring: &PacketRingV1) -> RestoreResult<()> {
        for at in frames(ring).take(usize::try_from(ring.next).unwrap_or(0)) {
            self.send(PACKET)?;
            wait_until(|| self.mapped.word(at) & HANDED_OVER != 0)?;
            self.mapped.set_word(at, 0);
        }
        Ok(())
    }

    /// A block is handed over when the next packet does not fit, which is in the next block then; or, if it has any, after some time. The last one
    /// is left to time.
    fn fill_blocks(&self, ring: &PacketRingV1) -> RestoreResult<()> {
        let size = usize::try_from(ring.block_size).unwrap_or(0);
        let last = usize::try_from(ring.next).unwrap_or(0);
        for number in 0..last {
            let at = number * size;
            let is_full = || self.mapped.word(at + BLOCK_STATUS) & HANDED_OVER != 0;
            let begin = Instant::now();
            while number + 1 < last && !is_full() {
                self.send(LARGE.min(size / 2))?;
                if begin.elapsed() > PATIENCE {
                    return Err(not_through("no packet comes through"));
                }
            }
            if !is_full() && self.mapped.word(at + BLOCK_PACKETS) == 0 {
                self.send(PACKET)?;
            }
            wait_until(is_full)?;
        }
        (0..last).for_each(|number| self.mapped.set_word(number * size + BLOCK_STATUS, 0));
        Ok(())
    }

    fn send_frames(&self, start: usize, ring: &PacketRingV1) -> RestoreResult<()> {
        // struct tpacket_hdr and tpacket2_hdr: where the length is, and where the offsets of the data are.
        let (length, offsets) = if self.version == 0 { (8, 16) } else { (4, 12) };
        let data = [DATA.to_ne_bytes(), DATA.to_ne_bytes()].concat();
        let mut packet = header();
        packet.resize(PACKET, 0);
        for at in frames(ring).take(usize::try_from(ring.next).unwrap_or(0)).map(|at| start + at) {
            self.mapped.write(at + offsets, &data);
            self.mapped.write(at + usize::from(DATA), &packet);
            self.mapped.set_word(at + length, u32::try_from(PACKET).unwrap_or(0));
            self.mapped.set_word(at, HANDED_OVER);
            socket::send(self.fd, &[], &socket::Attached::default())
                .map_err(|error| not_through(&error.to_string()))?;
            // But for the bits that say what kind of time is there.
            wait_until(|| self.mapped.word(at) & 7 == 0)?;
        }
        Ok(())
    }
}

/// Where the frames of a ring begin.
fn frames(ring: &PacketRingV1) -> impl Iterator<Item = usize> {
    let word = |word: u32| usize::try_from(word).unwrap_or(0);
    let (block, frame) = (word(ring.block_size), word(ring.frame_size).max(1));
    let in_block = (block / frame).max(1);
    (0..word(ring.frames)).map(move |number| number / in_block * block + number % in_block * frame)
}

/// Maps the rings where processes had them mapped.
pub(super) fn map_all(maker: &mut Maker<'_, '_>, sockets: &[(OpenFileId, &SocketV1)]) -> RestoreResult<()> {
    let has_ring = |socket: &SocketV1| match &socket.state {
        SocketStateV1::Packet(packet) => packet.receive_ring.is_some() || packet.send_ring.is_some(),
        _ => false,
    };
    let with_rings: Vec<_> = sockets.iter().filter(|(_, socket)| has_ring(socket)).collect();
    if with_rings.is_empty() {
        return Ok(());
    }
    let tasks: Vec<TaskV1> = maker.image.records()?;
    let mms: Vec<MmV1> = maker.image.records()?;
    for (id, socket) in with_rings {
        for at in 0..maker.sites.len() {
            let pid = maker.sites[at].builder.remote.pid();
            let mm = tasks.iter().find(|task| task.pid == pid).map(|task| task.mm);
            let vmas = mms.iter().filter(|found| Some(found.id) == mm).flat_map(|mm| &mm.vmas);
            for vma in vmas {
                if let BackingV1::PacketRings { inode, shared } = vma.backing
                    && inode == socket.inode
                {
                    let made = maker.made(*id)?.try_clone_to_owned();
                    let made = made.map_err(|error| ckpt_sys::SysError::new("dup", "a socket", error))?;
                    map(maker, at, made.as_fd(), vma, shared)?;
                }
            }
        }
    }
    Ok(())
}

fn map(
    maker: &mut Maker<'_, '_>,
    site: usize,
    made: BorrowedFd<'_>,
    vma: &VmaV1,
    shared: bool,
) -> RestoreResult<()> {
    let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let flags = u64::from((kind | libc::MAP_FIXED_NOREPLACE).unsigned_abs());
    maker.in_process(site, made, |builder, number| {
        let args = [vma.start, vma.end - vma.start, u64::from(vma.prot), flags, number, 0];
        builder.call("mmap", &describe(vma), libc::SYS_mmap, &args).map(drop)
    })
}
