//! Rings of AF_PACKET sockets. The kernel goes through a ring frame by frame (of version 3: block by block), as the program does, and does not tell where it is: what
//! it has left there does.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{BackingV1, FileKindV1, OpenFileV1, PacketRingV1, SocketStateV1, VmaV1};
use ckpt_sys::packet_diag::PacketSocket;
use ckpt_sys::packet_ring::{Mapped, Shape, has_any};
use ckpt_sys::proc::maps::Mapping;
use ckpt_sys::socket;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

const SOL_PACKET: i32 = 263;
const PACKET_VERSION: i32 = 10;
/// TPACKET_V3.
const BLOCKS: i32 = 2;
/// TP_STATUS_USER: the program's to read.
const USER: u32 = 1;
/// TP_STATUS_SEND_REQUEST and _WRONG_FORMAT: the kernel has not come to it, or stays at it. _SENDING: it is past it.
const TO_SEND: u32 = 1 | 4;
const SENDING: u32 = 2;
/// Bytes of both rings at most.
const MOST: usize = 256 << 20;

/// Of `struct tpacket_block_desc`: status, and when it was opened.
const BLOCK_STATUS: usize = 8;
const BLOCK_OPENED: usize = 32;

/// The rings of a socket.
#[derive(Debug, Default)]
pub(super) struct Rings {
    pub(super) receive: Option<PacketRingV1>,
    pub(super) send: Option<PacketRingV1>,
}

/// Where words of a frame are, by version: status, length, time.
struct Layout {
    status: usize,
    length: usize,
    time: usize,
}

impl Layout {
    /// `struct tpacket_hdr`, `tpacket2_hdr`.
    const fn of(version: i32) -> Self {
        match version {
            0 => Self { status: 0, length: 8, time: 20 },
            _ => Self { status: 0, length: 4, time: 16 },
        }
    }
}

/// Whether a mapping is of a socket: of rings, most likely.
pub(crate) fn is_of_socket(mapping: &Mapping) -> bool {
    mapping.path.starts_with(b"socket:[")
}

/// Reads the rings of a socket; the inner error is why that cannot be.
pub(super) fn read(fd: BorrowedFd<'_>, diag: &PacketSocket) -> CaptureResult<Result<Rings, &'static str>> {
    let version = socket::int_option(fd, SOL_PACKET, PACKET_VERSION)?.unwrap_or(0);
    if !has_any(fd, version)? {
        return Ok(Ok(Rings::default()));
    }
    let not_told =
        Ok(Err("the kernel does not tell of the ring that it sends through (PACKET_TX_RING of version 3)"));
    let size = |shape: Option<&Shape>| shape.map_or(0, Shape::bytes);
    let receive = size(diag.receive_ring.as_ref());
    let all = receive.saturating_add(size(diag.send_ring.as_ref()));
    if all == 0 {
        return not_told;
    }
    if all > MOST {
        return Ok(Err("its rings (PACKET_RX_RING, PACKET_TX_RING) have more than 256 MiB"));
    }
    let mapped = match Mapped::new(fd, all) {
        Err(error) if error.errno() == Some(Errno::EINVAL) && version == BLOCKS => return not_told,
        mapped => mapped?,
    };
    let mut rings = Rings::default();
    if let Some(shape) = diag.receive_ring {
        let layout = Layout::of(version);
        let (places, status, time_at): (Vec<usize>, _, _) = match version {
            BLOCKS => (blocks(&shape).collect(), BLOCK_STATUS, BLOCK_OPENED),
            _ => (frames(&shape).collect(), layout.status, layout.time),
        };
        let look = |at: usize| {
            let at = places[at];
            (mapped.word(at + status) & USER != 0, time(&mapped, at + time_at))
        };
        let after = if version == BLOCKS { open_block } else { after_last };
        let found = behind_first(places.len(), look, after);
        let mut ring = record(&mapped, 0, shape, after(&found));
        // What the kernel has filled since goes to where it was going on.
        for (at, _) in places.iter().zip(&found).filter(|(_, (is_full, _))| !is_full) {
            ring.memory[at + status..at + status + 4].fill(0);
        }
        rings.receive = Some(ring);
    }
    if let Some(shape) = diag.send_ring {
        let layout = Layout::of(version);
        let Some(next) = next_sent(&mapped, receive, &shape, &layout) else {
            return Ok(Err(
                "the kernel does not tell how far it is in the ring that it sends through (PACKET_TX_RING), which has been used from end to end",
            ));
        };
        let mut ring = record(&mapped, receive, shape, next);
        // What is under way is not taken back.
        for at in frames(&shape).map(|at| at + layout.status) {
            if ring.memory[at] & 7 == 2 {
                ring.memory[at] = 0;
            }
        }
        rings.send = Some(ring);
    }
    Ok(Ok(rings))
}

fn record(mapped: &Mapped, at: usize, shape: Shape, next: usize) -> PacketRingV1 {
    let Shape { block_size, blocks, frame_size, frames, retire_ms, private, features } = shape;
    let next = u32::try_from(next).unwrap_or(0);
    let memory = mapped.read(at, shape.bytes());
    PacketRingV1 { block_size, blocks, frame_size, frames, retire_ms, private, features, next, memory }
}

/// Where the frames of a ring begin.
fn frames(shape: &Shape) -> impl Iterator<Item = usize> {
    let word = |word: u32| usize::try_from(word).unwrap_or(0);
    let (block, frame) = (word(shape.block_size), word(shape.frame_size).max(1));
    let in_block = (block / frame).max(1);
    (0..word(shape.frames)).map(move |number| number / in_block * block + number % in_block * frame)
}

/// Two words as one number: seconds and their parts.
fn time(mapped: &Mapped, at: usize) -> u64 {
    u64::from(mapped.word(at)) << 32 | u64::from(mapped.word(at + 4))
}

/// Where the blocks of a ring begin.
fn blocks(shape: &Shape) -> impl Iterator<Item = usize> {
    let word = |word: u32| usize::try_from(word).unwrap_or(0);
    let size = word(shape.block_size);
    (0..word(shape.blocks)).map(move |number| number * size)
}

/// The block of version 3 that the kernel fills: the one that was opened last. If that is full, all are, and the kernel waits for the next.
fn open_block(blocks: &[(bool, u64)]) -> usize {
    let last = (0..blocks.len()).max_by_key(|at| blocks[*at].1).unwrap_or(0);
    let is_full = blocks.get(last).is_some_and(|block| block.0);
    (last + usize::from(is_full)) % blocks.len().max(1)
}

/// Whether the places of a ring are full, and since when, as of one moment, though the kernel goes on filling: those that it comes to last are looked at first,
/// so none is missed before one that is seen.
fn behind_first(
    count: usize,
    look: impl Fn(usize) -> (bool, u64),
    after: impl Fn(&[(bool, u64)]) -> usize,
) -> Vec<(bool, u64)> {
    let mut found: Vec<_> = (0..count).map(&look).collect();
    if count == 0 {
        return found;
    }
    let next = after(&found);
    for step in (0..count).rev() {
        let at = (next + step) % count;
        found[at] = look(at);
    }
    found
}

/// The frame after the one that was filled last, of frames that are full or not and were filled at a time.
fn after_last(frames: &[(bool, u64)]) -> usize {
    let before = |at: usize| if at == 0 { frames.len() - 1 } else { at - 1 };
    let mut ends = (0..frames.len()).filter(|at| !frames[*at].0 && frames[before(*at)].0);
    if let (Some(end), None) = (ends.next(), ends.next()) {
        return end;
    }
    // None are full, or all, or the program gives them back in another order.
    let newest = frames.iter().map(|(_, time)| *time).max().unwrap_or(0);
    let is_after = |at: &usize| frames[before(*at)].1 == newest && frames[*at].1 != newest;
    (0..frames.len()).find(is_after).unwrap_or(0)
}

/// The frame that the kernel sends next; None: it cannot be told.
fn next_sent(mapped: &Mapped, start: usize, shape: &Shape, layout: &Layout) -> Option<usize> {
    let frames = frames(shape).map(|at| {
        let at = start + at;
        (mapped.word(at + layout.status), mapped.word(at + layout.length))
    });
    first_to_send(&frames.collect::<Vec<_>>())
}

/// The first of frames, by status and length, that the kernel has not come to.
fn first_to_send(frames: &[(u32, u32)]) -> Option<usize> {
    let before = |at: usize| if at == 0 { frames.len() - 1 } else { at - 1 };
    let has = |at: usize, status: u32| frames[at].0 & status != 0;
    let is_first = |at: &usize| has(*at, TO_SEND) && !has(before(*at), TO_SEND);
    let is_behind = |at: &usize| !has(*at, SENDING) && has(before(*at), SENDING);
    let all = || 0..frames.len();
    if all().any(|at| has(at, TO_SEND)) {
        let mut firsts = all().filter(is_first);
        return firsts.next().filter(|_| firsts.next().is_none());
    }
    if all().any(|at| has(at, SENDING)) {
        let mut ends = all().filter(is_behind);
        return ends.next().filter(|_| ends.next().is_none());
    }
    let used = frames.iter().take_while(|(_, length)| *length != 0).count();
    let fresh = frames[used..].iter().all(|(_, length)| *length == 0);
    (used < frames.len() && fresh).then_some(used)
}

/// Refuses mappings of sockets that are no rings, or of which only a part is mapped. `mapped`: the processes' mappings.
pub(crate) fn settle<'a>(
    files: &[OpenFileV1],
    mapped: impl Iterator<Item = (i32, &'a VmaV1)>,
) -> CaptureResult<()> {
    for (pid, vma) in mapped {
        let BackingV1::PacketRings { inode: wanted, .. } = vma.backing else { continue };
        let refuse = |reason: &str, remedy: &str| {
            let object = format!("the mapping at {:#x}-{:#x} (socket:[{wanted}])", vma.start, vma.end);
            Err(CaptureError::unsupported(pid, object, reason, remedy))
        };
        let socket = files.iter().find_map(|file| match &file.kind {
            FileKindV1::Socket(socket) if socket.inode == wanted => Some(socket),
            _ => None,
        });
        let Some(socket) = socket else {
            return refuse(
                "no process of the job has a descriptor of that socket",
                "Let the program keep the descriptor open, or unmap it",
            );
        };
        let SocketStateV1::Packet(packet) = &socket.state else {
            return refuse("it is memory of a socket that is not of AF_PACKET", "Unmap it before saving");
        };
        let rings = [&packet.receive_ring, &packet.send_ring];
        let bytes: usize = rings.into_iter().flatten().map(|ring| ring.memory.len()).sum();
        if u64::try_from(bytes) != Ok(vma.end - vma.start) {
            return refuse("it is a part of a ring only", "Let the program map and unmap rings whole");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_goes_on_behind_what_it_filled_last() {
        let full = |frames: &[u8]| frames.iter().map(|full| (*full == 1, 5)).collect::<Vec<_>>();
        assert_eq!(after_last(&full(&[0, 1, 1, 0])), 3);
        assert_eq!(after_last(&full(&[1, 0, 0, 1])), 1);
        assert_eq!(after_last(&full(&[0, 0, 0, 1])), 0);
        let empty = |times: &[u64]| times.iter().map(|time| (false, *time)).collect::<Vec<_>>();
        assert_eq!(after_last(&empty(&[0, 0, 0])), 0);
        assert_eq!(after_last(&empty(&[3, 4, 0])), 2);
        assert_eq!(after_last(&empty(&[7, 4, 5])), 1);
        assert_eq!(after_last(&empty(&[5, 6, 7])), 0);
        assert_eq!(after_last(&[(true, 9), (true, 10), (true, 8)]), 2);
        assert_eq!(after_last(&[(true, 3), (false, 4), (true, 5), (false, 2)]), 3);
    }

    #[test]
    fn what_is_filled_meanwhile_leaves_no_gap() {
        // With each look, the kernel fills one more.
        let filled = std::cell::Cell::new(2);
        let look = |at: usize| {
            filled.set(filled.get() + 1);
            (at < filled.get() / 2, 1)
        };
        let found = behind_first(8, look, after_last);
        let full = found.iter().take_while(|(is_full, _)| *is_full).count();
        assert!(full > 0 && found[full..].iter().all(|(is_full, _)| !is_full), "{found:?}");
        assert_eq!(open_block(&[(true, 3), (false, 4), (false, 0)]), 1);
        assert_eq!(open_block(&[(true, 3), (true, 4), (true, 2)]), 2);
    }

    #[test]
    fn the_kernel_sends_what_it_has_not_come_to() {
        assert_eq!(first_to_send(&[(0, 0), (0, 0)]), Some(0));
        assert_eq!(first_to_send(&[(0, 9), (0, 0)]), Some(1));
        assert_eq!(first_to_send(&[(0, 9), (0, 9)]), None);
        assert_eq!(first_to_send(&[(0, 9), (1, 9), (1, 9)]), Some(1));
        assert_eq!(first_to_send(&[(1, 9), (0, 9), (1, 9)]), Some(2));
        assert_eq!(first_to_send(&[(2, 9), (2, 9), (0, 9)]), Some(2));
        assert_eq!(first_to_send(&[(2, 9), (1, 9), (0, 9)]), Some(1));
        assert_eq!(first_to_send(&[(1, 9), (0, 9), (1, 9), (0, 9)]), None);
    }
}
