//! The page index: which pages a checkpoint has, and where.
use super::{Role, StoreId, array, seal, u32_at, u64_at, unseal, unwrap, wrap};
use crate::StoreError;
use crate::map::{END_OF_PAGES, Extent, ExtentMap, PageSet, Place, Rising};
use crate::page::Space;
use crate::record::{GhostId, MmId, ShmemId};
use std::path::Path;

const COUNTS_LEN: usize = 32;
const NAME_LEN: usize = 64;
const RANGE_LEN: usize = 24;
const RUN_LEN: usize = 32;
const DELTA_LEN: usize = 48;
const FLAG_LIVE: u32 = 1;
/// A count of delta runs follows the other counts.
const FLAG_DELTAS: u32 = 2;

/// What a page index says.
#[derive(Debug, Clone, Default)]
pub(crate) struct PagesFile {
    /// The packs that `map` refers to, by file name.
    pub(crate) packs: Vec<String>,
    /// The pages that exist in this checkpoint; None: those of the parent and those of `map`.
    pub(crate) live: Option<PageSet>,
    /// Pages saved here, and pages that are zero from here on. All others are the parent's.
    pub(crate) map: ExtentMap<Place>,
}

/// The file of a page index.
pub(crate) fn encode_pages(index: &PagesFile, store: StoreId, name: &str) -> Vec<u8> {
    seal(Role::Pages, store, name, &wrap(&encode_pages_body(index)))
}

/// What is between header and digest.
pub(crate) fn encode_pages_body(index: &PagesFile) -> Vec<u8> {
    let mut runs = Vec::new();
    let mut absent = Vec::new();
    let mut deltas = Vec::new();
    let (mut run_count, mut absent_count, mut delta_count) = (0_u64, 0_u64, 0_u64);
    for (space, e) in index.map.iter() {
        match e.value {
            Place::Absent => {
                absent_count += 1;
                put_range(&mut absent, space, e.first, e.count);
            }
            Place::Stored { pack, slot } => {
                for (done, count) in pieces(e.count) {
                    run_count += 1;
                    put_run(&mut runs, space, e.first + done, slot + done, count, pack);
                }
            }
            Place::Delta { pack, slot, base_pack, base_slot } => {
                for (done, count) in pieces(e.count) {
                    delta_count += 1;
                    put_run(&mut deltas, space, e.first + done, slot + done, count, pack);
                    deltas.extend_from_slice(&(base_slot + done).to_le_bytes());
                    deltas.extend_from_slice(&base_pack.to_le_bytes());
                    deltas.extend_from_slice(&[0; 4]);
                }
            }
        }
    }
    let mut live = Vec::new();
    let mut live_count = 0_u64;
    for (space, e) in index.live.iter().flat_map(PageSet::iter) {
        live_count += 1;
        put_range(&mut live, space, e.first, e.count);
    }
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let flags = flag(index.live.is_some(), FLAG_LIVE) | flag(delta_count > 0, FLAG_DELTAS);
    let packs = u32::try_from(index.packs.len()).expect("each pack is a file");
    let mut body = Vec::with_capacity(COUNTS_LEN + live.len() + absent.len() + runs.len());
    body.extend_from_slice(&flags.to_le_bytes());
    body.extend_from_slice(&packs.to_le_bytes());
    for count in [live_count, absent_count, run_count] {
        body.extend_from_slice(&count.to_le_bytes());
    }
    if delta_count > 0 {
        body.extend_from_slice(&delta_count.to_le_bytes());
    }
    for pack in &index.packs {
        let mut field = [0; NAME_LEN];
        field[..pack.len()].copy_from_slice(pack.as_bytes());
        body.extend_from_slice(&field);
    }
    body.extend_from_slice(&live);
    body.extend_from_slice(&absent);
    body.extend_from_slice(&runs);
    body.extend_from_slice(&deltas);
    body
}

/// Checks and decodes the file of a page index.
pub(crate) fn decode_pages(
    file: &[u8],
    path: &Path,
    store: StoreId,
    name: &str,
) -> Result<(PagesFile, [u8; 32]), StoreError> {
    let (body, digest, version) = unseal(file, path, Role::Pages, Some(store), Some(name))?;
    Ok((decode_pages_body(&unwrap(version, body, path)?, path)?, digest))
}

/// Decodes what is between header and digest, which the caller has checked.
pub(crate) fn decode_pages_body(body: &[u8], path: &Path) -> Result<PagesFile, StoreError> {
    decode_body(body).map_err(|reason| StoreError::corrupt(path, format!("page index: {reason}")))
}

fn decode_body(body: &[u8]) -> Result<PagesFile, &'static str> {
    if body.len() < COUNTS_LEN {
        return Err("cut short");
    }
    let flags = u32_at(body, 0);
    let (deltas, start) = match flags & FLAG_DELTAS {
        0 => (0, COUNTS_LEN),
        _ if body.len() < COUNTS_LEN + 8 => return Err("cut short"),
        _ => (u64_at(body, COUNTS_LEN), COUNTS_LEN + 8),
    };
    let lengths = [
        (u64::from(u32_at(body, 4)), NAME_LEN),
        (u64_at(body, 8), RANGE_LEN),
        (u64_at(body, 16), RANGE_LEN),
        (u64_at(body, 24), RUN_LEN),
        (deltas, DELTA_LEN),
    ];
    let mut rest = &body[start..];
    let mut parts: [&[u8]; 5] = [&[]; 5];
    for (part, (count, size)) in parts.iter_mut().zip(lengths) {
        let bytes = usize::try_from(count).ok().and_then(|n| n.checked_mul(size));
        let bytes = bytes.filter(|n| *n <= rest.len()).ok_or("its counts exceed the file")?;
        (*part, rest) = rest.split_at(bytes);
    }
    if !rest.is_empty()
        || flags & !(FLAG_LIVE | FLAG_DELTAS) != 0
        || (flags & FLAG_LIVE == 0 && !parts[1].is_empty())
    {
        return Err("it does not fit its counts");
    }
    let packs = parts[0].chunks_exact(NAME_LEN).map(pack_name).collect::<Result<Vec<_>, _>>()?;
    let mut live = PageSet::default();
    let mut order = Order::default();
    for range in parts[1].chunks_exact(RANGE_LEN) {
        let (space, first, count) = order.check(get_space(range)?, u64_at(range, 8), u64_at(range, 16))?;
        live.insert(space, first, count, ());
    }
    let map = decode_map([parts[2], parts[3], parts[4]], packs.len())?;
    Ok(PagesFile { packs, live: (flags & FLAG_LIVE != 0).then_some(live), map })
}

/// The map of three lists: pages that are absent, stored, and deltas. Each of them rises; they are merged as they are read, for there may be millions.
fn decode_map(lists: [&[u8]; 3], packs: usize) -> Result<ExtentMap<Place>, &'static str> {
    let [absent, stored, deltas] = lists;
    let (mut a, mut b, mut c) = (Order::default(), Order::default(), Order::default());
    let mut absent = absent.chunks_exact(RANGE_LEN).map(|range| {
        let (space, first, count) = a.check(get_space(range)?, u64_at(range, 8), u64_at(range, 16))?;
        Ok((space, Extent { first, count, value: Place::Absent }))
    });
    let run = |run: &[u8], order: &mut Order, value: Place| {
        let listed = |(pack, slot): (u32, u64)| {
            usize::try_from(pack).is_ok_and(|pack| pack < packs) && slot < END_OF_PAGES
        };
        if !value.slots().all(listed) {
            return Err("a run in a pack that is not listed");
        }
        let (space, first, count) =
            order.check(get_space(run)?, u64_at(run, 8), u64::from(u32_at(run, 24)))?;
        Ok((space, Extent { first, count, value }))
    };
    let mut stored = stored
        .chunks_exact(RUN_LEN)
        .map(|bytes| run(bytes, &mut b, Place::Stored { pack: u32_at(bytes, 28), slot: u64_at(bytes, 16) }));
    let mut deltas = deltas.chunks_exact(DELTA_LEN).map(|bytes| {
        if u32_at(bytes, 44) != 0 {
            return Err("unknown values in a delta run");
        }
        let (pack, slot) = (u32_at(bytes, 28), u64_at(bytes, 16));
        let (base_slot, base_pack) = (u64_at(bytes, 32), u32_at(bytes, 40));
        run(bytes, &mut c, Place::Delta { pack, slot, base_pack, base_slot })
    });
    let sizes = lists.iter().zip([RANGE_LEN, RUN_LEN, DELTA_LEN]).map(|(list, size)| list.len() / size);
    let mut rows = Rising::with_capacity(sizes.sum());
    let mut lists: [&mut dyn Iterator<Item = Result<_, &'static str>>; 3] =
        [&mut absent, &mut stored, &mut deltas];
    let mut next = [None; 3];
    for (next, list) in next.iter_mut().zip(&mut lists) {
        *next = list.next().transpose()?;
    }
    let key = |(space, e): &(Space, Extent<Place>)| (*space, e.first);
    loop {
        let least =
            (0..next.len()).filter(|at| next[*at].is_some()).min_by_key(|at| next[*at].as_ref().map(key));
        let Some(least) = least else { break };
        let others = (0..next.len()).filter(|at| *at != least);
        let limit = others.filter_map(|at| next[at].as_ref().map(key)).min();
        while let Some(this) = next[least].filter(|this| limit.is_none_or(|limit| key(this) <= limit)) {
            rows.push(this.0, this.1).ok_or("a page that is said to be in two places")?;
            next[least] = lists[least].next().transpose()?;
        }
    }
    Ok(rows.map())
}

/// Sees to it that ranges rise and do not overlap.
#[derive(Default)]
struct Order {
    last: Option<(Space, u64)>,
}

impl Order {
    fn check(&mut self, space: Space, first: u64, count: u64) -> Result<(Space, u64, u64), &'static str> {
        let end = first.checked_add(count).filter(|end| count > 0 && *end <= END_OF_PAGES);
        let end = end.ok_or("a range beyond the last page")?;
        if self.last.is_some_and(|last| (space, first) < last) {
            return Err("ranges out of order");
        }
        self.last = Some((space, end));
        Ok((space, first, count))
    }
}

fn put_space(out: &mut Vec<u8>, space: Space) {
    let (kind, id) = match space {
        Space::Private(MmId(id)) => (0_u32, id),
        Space::Shmem(ShmemId(id)) => (1, id),
        Space::Ghost(GhostId(id)) => (2, id),
    };
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
}

fn get_space(bytes: &[u8]) -> Result<Space, &'static str> {
    let id = u32_at(bytes, 4);
    match u32_at(bytes, 0) {
        0 => Ok(Space::Private(MmId(id))),
        1 => Ok(Space::Shmem(ShmemId(id))),
        2 => Ok(Space::Ghost(GhostId(id))),
        _ => Err("an unknown kind of space"),
    }
}

fn put_range(out: &mut Vec<u8>, space: Space, first: u64, count: u64) {
    put_space(out, space);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
}

/// What a run has of pages in a row: how many come before, and how many they are.
fn pieces(count: u64) -> impl Iterator<Item = (u64, u32)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let piece = u32::try_from(count - done).unwrap_or(u32::MAX);
        let from = done;
        done += u64::from(piece);
        (piece > 0).then_some((from, piece))
    })
}

fn put_run(out: &mut Vec<u8>, space: Space, first: u64, slot: u64, count: u32, pack: u32) {
    put_space(out, space);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&slot.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&pack.to_le_bytes());
}

fn pack_name(field: &[u8]) -> Result<String, &'static str> {
    let field: [u8; NAME_LEN] = array(field, 0);
    let length = field.iter().position(|b| *b == 0).unwrap_or(NAME_LEN);
    if field[length..].iter().any(|b| *b != 0) {
        return Err("a pack's name that is none");
    }
    String::from_utf8(field[..length].to_vec()).map_err(|_| "a pack's name that is none")
}
