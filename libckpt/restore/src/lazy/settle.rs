//! Tracking of memory that has come late, once it is there. The program has written to it meanwhile, and nothing told where: what is still as the image
//! has it is clean.
use super::plan::LateMemory;
use crate::error::RestoreResult;
use ckpt_dirty::{Kind, Tracker};
use ckpt_image::Image;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps;
use ckpt_sys::{RemoteAddr, SysError, SysResult};
use nix::errno::Errno;
use std::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;

/// Protects the pages, then compares each with the image: what is written from now on shows by itself.
pub(super) fn settle(image: &Image, memory: &LateMemory, tracker: &mut Tracker) -> RestoreResult<()> {
    let process = ProcessMemory::open(tracker.pid())?;
    let mut reader = image.reader();
    for range in &memory.ranges {
        // It may have been unmapped since: what is there now is registered in the next checkpoint, and dirty.
        if !tracker.start(range.clone(), Kind::Anonymous).unwrap_or(false) {
            distrust(tracker, range.clone())?;
            continue;
        }
        let mut next = range.start;
        let (mut now, mut gone) = (Vec::new(), false);
        let pages = range.start / PAGE..range.end / PAGE;
        let mut compare = |page: u64, bytes: &[u8]| -> RestoreResult<()> {
            now.resize(bytes.len(), 0);
            let address = RemoteAddr::new(page * PAGE);
            let read = process.read(address, &mut now).is_ok();
            // An address space that nobody has any more ends everywhere: the rest of the image would be read for nothing.
            if !read && process.read_some(address, &mut now).is_ok_and(|len| len == 0) {
                gone = true;
                return Err(SysError::new("read of memory", "a process that has ended", Errno::ESRCH).into());
            }
            for (number, (new, now)) in (page..).zip(bytes.chunks(PAGE_SIZE).zip(now.chunks(PAGE_SIZE))) {
                if read && new == now {
                    if next < number * PAGE {
                        distrust(tracker, next..number * PAGE)?;
                    }
                    next = (number + 1) * PAGE;
                }
            }
            Ok(())
        };
        let compared = reader.for_each_run(Space::Private(memory.mm), pages, &mut compare);
        if !gone {
            compared?;
        }
        if next < range.end {
            distrust(tracker, next..range.end)?;
        }
    }
    Ok(())
}

/// Counts all pages of `range` as dirty, whatever mappings are there by now.
fn distrust(tracker: &Tracker, range: Range<u64>) -> RestoreResult<()> {
    let outcome = tracker.distrust(range.clone());
    if !is_mixed(&outcome) {
        return Ok(outcome?);
    }
    for mapping in maps::maps(tracker.pid())? {
        let part = mapping.start.max(range.start)..mapping.end.min(range.end);
        if !part.is_empty() {
            distrust_by_halves(tracker, part)?;
        }
    }
    Ok(())
}

/// A page of a mapping that is not tracked is dirty by itself.
fn distrust_by_halves(tracker: &Tracker, range: Range<u64>) -> RestoreResult<()> {
    let outcome = tracker.distrust(range.clone());
    if !is_mixed(&outcome) {
        return Ok(outcome?);
    }
    let half = (range.end - range.start) / PAGE / 2 * PAGE;
    if half == 0 {
        return Ok(());
    }
    distrust_by_halves(tracker, range.start..range.start + half)?;
    distrust_by_halves(tracker, range.start + half..range.end)
}

/// Something there is not tracked; the kernel stops there.
fn is_mixed(outcome: &SysResult<()>) -> bool {
    outcome.as_ref().is_err_and(|error| error.errno() == Some(Errno::ENOENT))
}
