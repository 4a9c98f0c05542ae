//! Pages that processes have from a common ancestor and have not written since: copied and stored once. The kernel tells which page frame is
//! behind a page to those who have CAP_SYS_ADMIN; without it, each process's pages are its own.
use crate::error::CaptureResult;
use crate::pages::Found;
use ckpt_image::page::PAGE_SIZE;
use ckpt_sys::pagemap::{Frame, Pagemap};
use ckpt_sys::proc::maps;
use std::collections::HashMap;
use std::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages in a row that are those of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SameRun {
    /// Address of the first.
    pub(crate) start: u64,
    /// Pages.
    pub(crate) pages: u64,
    /// The other process.
    pub(crate) of: i32,
    /// Address of the first there.
    pub(crate) of_start: u64,
}

impl SameRun {
    /// Their addresses.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start + self.pages * PAGE
    }
}

/// Who saves a page frame: a process, by one of its pages.
#[derive(Debug, Clone, Copy)]
struct Owner {
    pid: i32,
    address: u64,
    /// It is saved already.
    clean: bool,
}

/// Finds pages that several frozen processes, parents before their children, have; all but one of them get them from that one.
pub(crate) fn find(processes: &mut [&mut Found]) -> CaptureResult<()> {
    if processes.len() < 2 {
        return Ok(());
    }
    let mut owners: HashMap<u64, Owner> = HashMap::new();
    let mut candidates = Vec::with_capacity(processes.len());
    for found in &*processes {
        let pagemap = Pagemap::open(found.pid)?;
        let mut shared = Vec::new();
        for range in &found.dirty {
            pagemap.frames(range.clone(), |frame| {
                if is_shared(&frame) {
                    let owner = Owner { pid: found.pid, address: frame.address, clean: false };
                    owners.entry(frame.number).or_insert(owner);
                    shared.push((frame.address, frame.number));
                }
            })?;
        }
        candidates.push(shared);
    }
    if owners.is_empty() {
        return Ok(());
    }
    for found in &*processes {
        let pagemap = Pagemap::open(found.pid)?;
        for range in clean(found) {
            pagemap.frames(range, |frame| {
                if let Some(owner) = owners.get_mut(&frame.number).filter(|owner| !owner.clean) {
                    *owner = Owner { pid: found.pid, address: frame.address, clean: true };
                }
            })?;
        }
    }
    for (found, shared) in processes.iter_mut().zip(candidates) {
        for (address, number) in shared {
            let owner = owners[&number];
            if (owner.pid, owner.address) != (found.pid, address) {
                push(&mut found.same, address, owner);
            }
        }
    }
    Ok(())
}

/// Pages that hold something and did not change.
fn clean(found: &Found) -> Vec<Range<u64>> {
    let mut clean = Vec::new();
    let mut dirty = found.dirty.iter().peekable();
    for range in &found.populated {
        let mut next = range.start;
        while let Some(part) = dirty.next_if(|part| part.start < range.end) {
            if next < part.start {
                clean.push(next..part.start);
            }
            next = part.end;
        }
        if next < range.end {
            clean.push(next..range.end);
        }
    }
    clean
}

fn push(runs: &mut Vec<SameRun>, start: u64, owner: Owner) {
    match runs.last_mut() {
        Some(last)
            if last.range().end == start
                && last.of == owner.pid
                && last.of_start + last.pages * PAGE == owner.address =>
        {
            last.pages += 1;
        }
        _ => runs.push(SameRun { start, pages: 1, of: owner.pid, of_start: owner.address }),
    }
}

fn is_shared(frame: &Frame) -> bool {
    !frame.exclusive && !frame.file && frame.number != 0
}

/// Which of the processes of a job that runs is the first to have a page frame that several have.
#[derive(Debug)]
pub(crate) struct Frames(HashMap<u64, i32>);

impl Frames {
    /// Looks at processes, parents before their children. One that ends meanwhile has none.
    pub(crate) fn read(pids: &[i32]) -> Self {
        let mut frames = HashMap::new();
        // One alone shares nothing.
        for &pid in pids.iter().filter(|_| pids.len() > 1) {
            let (Ok(mappings), Ok(pagemap)) = (maps::maps(pid), Pagemap::open(pid)) else { continue };
            let private = |mapping: &&maps::Mapping| !mapping.shared && !mapping.path.starts_with(b"[v");
            for range in mappings.iter().filter(private).map(maps::Mapping::range) {
                // What is populated: a reservation of terabytes has nothing to tell.
                let _ = pagemap.populated_frames(range, |frame| {
                    if is_shared(&frame) {
                        frames.entry(frame.number).or_insert(pid);
                    }
                });
            }
        }
        Self(frames)
    }

    /// No process has a page frame that another has, too.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pages of `range` of process `pid` that another process had first.
    pub(crate) fn of_others(&self, pid: i32, range: Range<u64>) -> Vec<Range<u64>> {
        let mut others: Vec<Range<u64>> = Vec::new();
        if self.0.is_empty() {
            return others;
        }
        let Ok(pagemap) = Pagemap::open(pid) else { return others };
        let _ = pagemap.frames(range, |frame| {
            let first = self.0.get(&frame.number).copied().unwrap_or(pid);
            if is_shared(&frame) && first != pid {
                match others.last_mut() {
                    Some(last) if last.end == frame.address => last.end += PAGE,
                    _ => others.push(frame.address..frame.address + PAGE),
                }
            }
        });
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_clean_is_the_rest() {
        let found = Found {
            pid: 1,
            live: Vec::new(),
            populated: vec![0x1000..0x5000, 0x8000..0xa000, 0xb000..0xc000],
            dirty: vec![0x1000..0x2000, 0x3000..0x4000, 0x9000..0xa000],
            same: Vec::new(),
        };
        assert_eq!(clean(&found), [0x2000..0x3000, 0x4000..0x5000, 0x8000..0x9000, 0xb000..0xc000]);
    }
}
