//! A copy-on-write clone of a process's memory, where that is quicker than to copy in the pause what pre-copy has left: the pages are stored from it when the job runs again.
//!
//! It is the kernel's own fork(2), of a helper that shares the memory ([`ckpt_sys::inject::Offspring`]). What the clone would hold on to but for the private
//! anonymous memory that is read from it (mapped files, shared memory), it unmaps before the job runs; it has no descriptors, and a session of its own.
use crate::buffer::{fit, total};
use crate::error::{CaptureError, CaptureResult};
use crate::process::Process;
use crate::room::room;
use crate::{aio, capture, files};
use ckpt_dirty::ranges::{gaps, within};
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::{CheckpointWriter, fault};
use ckpt_sys::inject::{Hints, Injector, Offspring};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps::{self, Mapping};
use ckpt_sys::{RemoteAddr, fork_cost, proc};
use nix::errno::Errno;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes to copy below which nothing else is considered.
const LEAST: u64 = 32 << 20;
/// Bytes that are copied first, to see how long that takes.
const PROBE: u64 = 2 << 20;
/// Calls of the clone, to unmap what it does not need, at most.
const UNMAPS_MAX: usize = 256;
/// Bytes read at a time.
const PIECE: u64 = 2 << 20;
/// Bytes after which the clone gives up what has been stored.
const GIVEN_UP: u64 = 16 << 20;

/// What a save may do about clones.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    /// Bytes that the program may come to take up by writing to what clones have, beyond those that would have been copied; 0: there are to be no clones.
    bytes: u64,
    /// Bytes that it may already.
    promised: u64,
    /// The time that it takes to clone a page.
    per_page: Duration,
    /// A test asks for clones, whatever they cost.
    forced: bool,
}

impl Permit {
    /// A permit for `bytes` of all clones together, if pre-copy has left so much (bytes) that it may come to that. What a clone costs is found out here, before the pause.
    pub(crate) fn prepare(bytes: u64, left: u64) -> Self {
        let forced = fault::point("capture.clone.force").is_err();
        // The program writes on until it stands still.
        if !forced && left < LEAST / 4 {
            return Self::default();
        }
        match fork_cost::per_page() {
            Ok(per_page) => Self { bytes, promised: 0, per_page, forced },
            Err(error) => {
                tracing::debug!(%error, "no clones");
                Self::default()
            }
        }
    }
}

/// What is known of a process that may be cloned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// The stopped process.
    pub(crate) process: &'a Process,
    /// The thread that makes the calls.
    pub(crate) tid: i32,
    /// What is known of that.
    pub(crate) hints: Hints,
    /// Its mappings, with their flags.
    pub(crate) mappings: &'a [Mapping],
}

/// Pages to be stored from a clone.
#[derive(Debug)]
pub(crate) struct Cloned {
    clone: Offspring,
    memory: ProcessMemory,
    /// Where they are, rising.
    ranges: Vec<Range<u64>>,
    /// The area by which it makes calls.
    scratch: Range<u64>,
}

/// Which of the pages to copy could be left to a clone.
#[derive(Debug)]
pub(crate) struct Split {
    /// To be copied in any case; how long that takes is measured.
    pub(crate) first: Vec<Range<u64>>,
    /// The others.
    pub(crate) rest: Vec<Range<u64>>,
    /// Bytes that are there.
    populated: u64,
    /// Those of them that a clone would keep.
    present: u64,
}

impl Candidate<'_> {
    /// Divides `own`, the pages to copy; None if they all are to be copied. `populated`: all pages that are there; both rise.
    pub(crate) fn split(
        &self,
        own: &[Range<u64>],
        populated: &[Range<u64>],
        permit: &Permit,
    ) -> Option<Split> {
        let least = if permit.forced { 1 } else { LEAST };
        if permit.bytes == 0 || total(own) < least || !self.is_inherited_alike() {
            return None;
        }
        let kept: Vec<Range<u64>> =
            self.mappings.iter().filter(|mapping| is_cloned(mapping)).map(Mapping::range).collect();
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for range in own {
            let parts = within(&kept, range);
            first.extend(gaps(range, &parts));
            rest.extend(parts);
        }
        let kept: Vec<_> = kept.into_iter().filter(|range| !within(&rest, range).is_empty()).collect();
        let present = kept.iter().map(|range| total(&within(populated, range))).sum();
        if !permit.forced {
            let groups = fit(&rest, PROBE);
            let mut groups = groups.into_iter();
            first.extend(groups.next().unwrap_or_default());
            first.sort_unstable_by_key(|range| range.start);
            rest = groups.flatten().collect();
        }
        (total(&rest) >= least).then_some(Split { first, rest, populated: total(populated), present })
    }

    /// Whether there is nothing in its memory that a fork(2) does not leave alone, or that could be seen of it from elsewhere. Pages that the kernel holds for asynchronous
    /// requests are written without a fault; of a huge page there may be no other for the copy; a userfaultfd may ask to be told; a System V segment counts
    /// who has it, a device does what it likes, and what is sealed cannot be unmapped.
    fn is_inherited_alike(&self) -> bool {
        let own = |mapping: &&Mapping| !mapping.path.starts_with(b"[v");
        self.mappings.iter().filter(own).all(|mapping| {
            let is_file = mapping.inode == 0 || mapping.path.starts_with(b"/");
            let is_special =
                [b"ht", b"io", b"pf", b"sl", b"um", b"ui"].iter().any(|flag| mapping.has_flag(flag));
            let is_ring = aio::is_ring(mapping) || files::is_ring(mapping);
            is_file && !is_special && !is_ring && !mapping.path.starts_with(b"/SYSV")
        })
    }

    /// Whether the clone is clearly quicker than to copy what is left, and whether there is room for it. `took`: the time that it took to copy what was copied first, of this process in
    /// this pause. What a clone of all that is there takes was measured before the pause, with pages of our own.
    pub(crate) fn pays(&self, split: &Split, took: Duration, permit: &Permit) -> bool {
        let pid = self.process.pid;
        let left = total(&split.rest);
        let more = split.present.saturating_sub(left);
        let has_room = permit.promised + more <= permit.bytes
            && room(pid).is_some_and(|room| permit.promised + split.present <= room / 2);
        if !has_room {
            tracing::debug!(pid, present = split.present, left, "no room for a clone");
            return false;
        }
        if let Some(why) = unfit(pid, self.tid) {
            tracing::debug!(pid, why, "no clone");
            return false;
        }
        let ns = |bytes: u64| u128::from(bytes) * took.as_nanos() / u128::from(total(&split.first).max(1));
        // Two threads copy.
        let (copy, clone) = (ns(left) / 2, u128::from(split.populated / PAGE) * permit.per_page.as_nanos());
        tracing::debug!(
            pid,
            present = split.present,
            left,
            ?took,
            copy_us = copy / 1000,
            clone_us = clone / 1000,
            "clone or copy"
        );
        permit.forced || clone * 2 <= copy
    }

    /// Makes the clone; None where the system refuses.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn make(&self, split: &Split, permit: &mut Permit) -> CaptureResult<Option<Cloned>> {
        let begin = Instant::now();
        let pid = self.process.pid;
        let memory = &self.process.memory;
        let mut injector = Injector::with_hints(pid, self.tid, memory, self.hints)?;
        let scratch = injector.scratch().range();
        let mut made = injector.clone_memory()?;
        if fault::point("capture.clone.refused").is_err() {
            made = Err(Errno::EAGAIN);
        }
        let unneeded = maps::maps(pid).map(|mappings| unneeded(&mappings, &split.rest, &scratch));
        injector.finish()?;
        let mut clone = match made {
            Ok(clone) => clone,
            Err(errno) => {
                tracing::debug!(pid, %errno, "the system refuses a clone");
                return Ok(None);
            }
        };
        let us = begin.elapsed().as_micros();
        // That one has it rather than the program, should memory run out.
        let _ = std::fs::write(proc::path(clone.pid(), "oom_score_adj"), "1000");
        if let Err(error) = be_alone(&mut clone, &unneeded?) {
            tracing::debug!(pid, error, "a clone cannot be made apart");
            return Ok(None);
        }
        capture::point("capture.cloned")?;
        permit.promised += split.present;
        let memory = ProcessMemory::open(clone.pid())?;
        tracing::debug!(pid, clone = clone.pid(), us, alone_us = begin.elapsed().as_micros(), "cloned");
        Ok(Some(Cloned { clone, memory, ranges: split.rest.clone(), scratch }))
    }
}

/// Why a process cannot be cloned by its thread `tid` that is not of its memory.
fn unfit(pid: i32, tid: i32) -> Option<&'static str> {
    let link = |name: &str| std::fs::read_link(proc::path(pid, &format!("task/{tid}/ns/{name}"))).ok();
    let here = |name: &str| std::fs::read_link(PathBuf::from("/proc/self/ns").join(name)).ok();
    let pids = link("pid");
    if pids.is_none() || pids != here("pid") || pids != link("pid_for_children") {
        return Some("it or its children are in another PID namespace");
    }
    if link("time") != link("time_for_children") {
        return Some("its children are in another time namespace");
    }
    None
}

/// Whether a fork(2) takes a mapping along, and a clone is to have it.
fn is_cloned(mapping: &Mapping) -> bool {
    let is_private = !mapping.shared && mapping.inode == 0 && !mapping.path.starts_with(b"[v");
    // Without flags it is not known.
    is_private && mapping.has_flag(b"mr") && !mapping.has_flag(b"dc") && !mapping.has_flag(b"wf")
}

/// All that is mapped but for the mappings of `needed` pages and the scratch area.
fn unneeded(mappings: &[Mapping], needed: &[Range<u64>], scratch: &Range<u64>) -> Vec<Range<u64>> {
    let mappings: Vec<&Mapping> = mappings.iter().filter(|mapping| mapping.path != b"[vsyscall]").collect();
    let is_kept = |range: &Range<u64>| {
        (scratch.start..scratch.end).contains(&range.start) || !within(needed, range).is_empty()
    };
    let kept: Vec<_> = mappings.iter().map(|mapping| mapping.range()).filter(is_kept).collect();
    let (Some(first), Some(last)) = (mappings.first(), mappings.last()) else { return Vec::new() };
    gaps(&(first.start..last.end), &kept)
}

/// Has a clone leave its session and its group, and give up all that it need not have.
fn be_alone(clone: &mut Offspring, unneeded: &[Range<u64>]) -> Result<(), String> {
    if unneeded.len() > UNMAPS_MAX {
        return Err(format!("{} mappings to be given up", unneeded.len()));
    }
    let mut call = |nr, args: &[u64]| match clone.syscall(nr, args) {
        Ok(outcome) => outcome.map(drop).map_err(|errno| errno.to_string()),
        Err(error) => Err(error.to_string()),
    };
    call(libc::SYS_setsid, &[])?;
    unneeded.iter().try_for_each(|range| call(libc::SYS_munmap, &[range.start, range.end - range.start]))
}

impl Cloned {
    /// The clone's pid.
    pub(crate) fn pid(&self) -> i32 {
        self.clone.pid()
    }

    /// Stores the pages of process `pid`, and ends the clone.
    ///
    /// # Errors
    /// Those of the store; or the clone was killed, or has not all of them.
    pub(crate) fn store(
        mut self,
        pid: i32,
        space: Space,
        writer: &mut CheckpointWriter,
    ) -> CaptureResult<()> {
        self.check(pid)?;
        let mut buffer = vec![0; usize::try_from(PIECE).unwrap_or(0)];
        let mut given_up = 0;
        for group in fit(&std::mem::take(&mut self.ranges), GIVEN_UP) {
            for piece in fit(&group, PIECE).into_iter().flatten() {
                let bytes = &mut buffer[..usize::try_from(piece.end - piece.start).unwrap_or(0)];
                // Not by process_vm_readv(2): it pins pages, and would be given copies of its own.
                self.memory.read(RemoteAddr::new(piece.start), bytes)?;
                writer.pages(space, piece.start / PAGE, bytes)?;
            }
            let end = group.last().map_or(0, |range| range.end);
            // What only the program has now, it need not copy when it writes.
            for range in gaps(&(given_up..end), &within(&[self.scratch.clone()], &(given_up..end))) {
                let _ = self.clone.syscall(libc::SYS_munmap, &[range.start, range.end - range.start])?;
            }
            given_up = end;
        }
        Ok(())
    }

    /// The flags of mappings were read before the pause.
    fn check(&self, pid: i32) -> CaptureResult<()> {
        let mappings = maps::smaps(self.clone.pid())?;
        let kept: Vec<Range<u64>> =
            mappings.iter().filter(|mapping| is_cloned(mapping)).map(Mapping::range).collect();
        match self.ranges.iter().find_map(|range| gaps(range, &within(&kept, range)).into_iter().next()) {
            None => Ok(()),
            Some(lost) => Err(CaptureError::unsupported(
                pid,
                format!("memory at {:#x}-{:#x}", lost.start, lost.end),
                "the program chose just now that children are not to inherit it (madvise)",
                "Save again",
            )),
        }
    }
}
