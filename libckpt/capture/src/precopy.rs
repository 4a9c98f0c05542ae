//! Pre-copy: when much is dirty, most of it is saved while the job runs, so that the pause is short and copies need little memory.
use crate::aio;
use crate::buffer::{PageCopies, Spares, fit, total};
use crate::error::CaptureResult;
use crate::freeze::{Freeze, Known};
use crate::pages::{MemoryStats, count};
use crate::shared_pages::Frames;
use crate::sharing::Owners;
use crate::{capture, files, mm, userfaultfd};
use ckpt_dirty::ranges::{gaps, within};
use ckpt_dirty::{Kind, Tracker, Tracking};
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::{CheckpointWriter, Kind as CheckpointKind};
use ckpt_sys::RemoteAddr;
use ckpt_sys::inject::{Gadgets, Hints, Injector};
use ckpt_sys::kcmp::Resource;
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps::{self, Mapping};
use ckpt_sys::proc::stand_in;
use std::cell::OnceCell;
use std::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;
/// Dirty pages that the pause may be spent on copying.
const ENOUGH: u64 = 256;
/// Rounds at most.
const ROUNDS: u32 = 12;
/// Bytes copied at a time when they are stored at once.
const PIECE: u64 = 2 << 20;
/// Bytes of a buffer of copies that are made first and stored after the pause. To store takes several times as long as to copy, and the program goes on writing
/// meanwhile; and what it writes again need not be stored.
const HELD: u64 = 16 << 20;
/// Bytes that are left to the freeze if some of them cannot be read.
const SMALL: u64 = 256 << 10;

/// Saves what is dirty of all processes while they run; how many pages are left. One that ends meanwhile is left out.
pub(crate) fn precopy_job(
    members: &[i32],
    tracking: &mut Tracking,
    writer: &mut CheckpointWriter,
    stats: &mut MemoryStats,
) -> CaptureResult<u64> {
    let mut owners = Owners::new(Resource::Memory);
    let root = members[0];
    let frames = OnceCell::new();
    let frames = || frames.get_or_init(|| Frames::read(members));
    let handles_faults = userfaultfd::any(members);
    for &pid in members.iter().filter(|_| handles_faults) {
        userfaultfd::wait_until_answered(pid)?;
    }
    let mut left = 0;
    for &pid in members {
        let outcome = owners.of(pid).and_then(|owner| {
            if owner != pid {
                return Ok(0);
            }
            let left = precopy(pid, tracking, writer, stats, frames, handles_faults)?;
            let always = tracking.tracker(pid).always_dirty(&(0..u64::MAX));
            Ok(left + always.iter().map(count).sum::<u64>())
        });
        left += capture::if_alive(root, pid, outcome)?.unwrap_or(0);
    }
    Ok(left)
}

/// Saves dirty pages of the running process, in rounds, until few are left or it dirties them as fast. What changes meanwhile is saved
/// again in the freeze; how many pages that are, about, but for those that are always dirty. A job that handles page faults itself is left to the freeze. Pages that another process had first, as `frames` tells, are left to the freeze, where it is certain whose they are.
fn precopy<'f>(
    pid: i32,
    tracking: &mut Tracking,
    writer: &mut CheckpointWriter,
    stats: &mut MemoryStats,
    frames: impl FnOnce() -> &'f Frames,
    handles_faults: bool,
) -> CaptureResult<u64> {
    let tracker = tracking.tracker(pid);
    tracker.begin()?;
    if writer.kind() == CheckpointKind::Full {
        // All pages are wanted, not those since an earlier checkpoint.
        tracker.reset()?;
    }
    if handles_faults || pins_memory(pid)? {
        return Ok(0);
    }
    let mut left = dirty_pages(tracker, pid)?;
    if left <= ENOUGH {
        return Ok(left);
    }
    if !tracker.is_attached() {
        attach(pid, tracker)?;
    }
    if !tracker.is_attached() {
        return Ok(left);
    }
    let frames = frames();
    let mut holds = false;
    for _ in 0..ROUNDS {
        let room = stats.early_max.saturating_sub(stats.held());
        // To copy is so much faster than to store that the program writes less meanwhile in each round: the later ones need their room, too.
        if left * PAGE <= if holds { room } else { room / 2 } {
            copy_round(pid, tracker, stats, frames)?;
            holds = true;
        } else if holds {
            // While all that is held was stored, the program would write more than there is left now.
            break;
        } else {
            round(pid, tracker, writer, stats, frames)?;
        }
        let now = dirty_pages(tracker, pid)?;
        // Each round has less to do than the one before, and so leaves less time to write in.
        let converges = now <= left / 5 * 4;
        left = now;
        if now <= ENOUGH || !converges {
            break;
        }
    }
    Ok(left)
}

/// Whether the kernel may hold pages of the running process for asynchronous requests: it writes to them without a fault, so they cannot be protected before the
/// process stands still.
fn pins_memory(pid: i32) -> CaptureResult<bool> {
    Ok(maps::maps(pid)?.iter().any(|mapping| aio::is_ring(mapping) || files::is_ring(mapping)))
}

/// Stops the process for a moment, to have it make the userfaultfd.
fn attach(pid: i32, tracker: &mut Tracker) -> CaptureResult<()> {
    let gadgets = Gadgets::find(pid, &ProcessMemory::open(pid)?)?;
    let freeze = Freeze::begin(pid, &Known::default())?;
    let memory = ProcessMemory::open(pid)?;
    let mut injector = Injector::with_hints(pid, stand_in::of(pid), &memory, Hints { gadgets, call: None })?;
    tracker.verify()?;
    tracker.attach(&mut injector)?;
    injector.finish()?;
    freeze.thaw();
    Ok(())
}

/// What is worth saving early: mappings that are the process's own. None: it is left to the freeze.
fn kind(mapping: &Mapping) -> Option<Kind> {
    if mapping.shared || mapping.path.starts_with(b"[v") || files::is_of_socket(mapping) {
        return None;
    }
    if mapping.inode == 0 {
        return Some(Kind::Anonymous);
    }
    (mapping.prot & libc::PROT_WRITE.unsigned_abs() != 0).then_some(Kind::PrivateFile)
}

fn candidates(pid: i32) -> CaptureResult<Vec<(Range<u64>, Kind)>> {
    let mappings = maps::maps(pid)?;
    Ok(mappings.iter().filter_map(|mapping| Some((mapping.range(), kind(mapping)?))).collect())
}

fn dirty_pages(tracker: &Tracker, pid: i32) -> CaptureResult<u64> {
    let mut total = 0;
    for (range, kind) in candidates(pid)? {
        total += tracker.count_dirty(range, kind)?;
    }
    Ok(total)
}

/// Copies what is dirty.
fn copy_round(
    pid: i32,
    tracker: &mut Tracker,
    stats: &mut MemoryStats,
    frames: &Frames,
) -> CaptureResult<()> {
    let memory = ProcessMemory::open(pid)?;
    let mut own = Vec::new();
    for (range, kind) in candidates(pid)? {
        let dirty = tracker.collect_running(range, kind);
        let others: Vec<_> = dirty.iter().flat_map(|range| frames.of_others(pid, range.clone())).collect();
        own.extend(dirty.iter().flat_map(|range| gaps(range, &within(&others, range))));
        others.into_iter().for_each(|range| tracker.doubt(range));
    }
    let mut groups = fit(&own, HELD);
    while let Some(group) = groups.pop() {
        match PageCopies::copy(pid, &memory, &group, &mut Spares::of(stats.lent.as_ref()), frames.is_empty())
        {
            Ok(copies) => {
                stats.precopied.entry(pid).or_default().extend(group);
                stats.early.entry(pid).or_default().push(copies);
            }
            // Unmapped meanwhile, or in part.
            Err(_) if total(&group) > SMALL => {
                groups.extend(fit(&group, (total(&group) / 2).next_multiple_of(PAGE)));
            }
            Err(_) => group.into_iter().for_each(|range| tracker.doubt(range)),
        }
    }
    Ok(())
}

/// Stores what is dirty.
fn round(
    pid: i32,
    tracker: &mut Tracker,
    writer: &mut CheckpointWriter,
    stats: &mut MemoryStats,
    frames: &Frames,
) -> CaptureResult<()> {
    let memory = ProcessMemory::open(pid)?;
    let mut buffer = vec![0; usize::try_from(PIECE).unwrap_or(0)];
    for (range, kind) in candidates(pid)? {
        let dirty = tracker.collect_running(range, kind);
        let others: Vec<_> = dirty.iter().flat_map(|range| frames.of_others(pid, range.clone())).collect();
        for dirty in dirty.iter().flat_map(|range| gaps(range, &within(&others, range))) {
            let mut start = dirty.start;
            while start < dirty.end {
                let end = dirty.end.min(start + PIECE);
                let bytes = &mut buffer[..usize::try_from(end - start).unwrap_or(0)];
                if memory.read(RemoteAddr::new(start), bytes).is_ok() {
                    writer.pages(Space::Private(mm::id(pid)), start / PAGE, bytes)?;
                    stats.precopied.entry(pid).or_default().push(start..end);
                } else {
                    // Unmapped meanwhile, or in part: the freeze will tell.
                    tracker.doubt(start..end);
                }
                start = end;
            }
        }
        others.into_iter().for_each(|range| tracker.doubt(range));
    }
    Ok(())
}
