//! The way of a checkpoint: what is done before, within and after the pause.
use crate::error::{CaptureError, CaptureResult};
use crate::files::Journal;
use crate::freeze::{self, Freeze};
use crate::interrupted::{Earlier, LastRan};
use crate::inventory::{capture_inventory, clock_ns};
use crate::objects::Objects;
use crate::process::Process;
use crate::thread::{Still, View, capture_thread};
use crate::{files, fs, leftovers, mm, pages, precopy, preflight, sighand, task, vma};
use ckpt_dirty::Tracking;
use ckpt_image::record::{FdTableV1, FsV1, InventoryV1, MmV1, SighandV1, TaskV1, ThreadV1};
use ckpt_image::{CheckpointId, CheckpointWriter, Kind, Stats, Store, fault};
use ckpt_sys::inject::{Gadgets, Hints, Injector, Scratch};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps::{self, Mapping};
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::{SysError, pidfd};
use std::collections::HashMap;
use std::time::Instant;

/// What becomes of the job after its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It runs on.
    Run,
    /// It is killed where it stands, once the checkpoint is committed.
    Kill,
}

/// What to save, and where.
#[derive(Debug)]
pub struct CaptureRequest<'a> {
    /// The job's root process.
    pub root_pid: i32,
    /// Where to.
    pub store: &'a Store,
    /// The job's name.
    pub job: &'a str,
    /// Make it stand alone.
    pub full: bool,
    /// The job's last checkpoint; None: the first.
    pub parent: Option<CheckpointId>,
    /// Dirty-page tracking since `parent`; None: all pages count as dirty.
    pub tracking: Option<Tracking>,
    /// What becomes of the job.
    pub after: After,
}

/// A committed checkpoint.
#[derive(Debug)]
pub struct Captured {
    /// Its id.
    pub id: CheckpointId,
    /// Full or incremental.
    pub kind: Kind,
    /// Its parent.
    pub parent: Option<CheckpointId>,
    /// What it cost.
    pub stats: Stats,
    /// Dirty-page tracking since this checkpoint; None when the job was killed.
    pub tracking: Option<Tracking>,
}

/// Saves a job. Must be called, and runs to its end, on one thread: that is its tracer.
///
/// # Errors
/// The job runs on in any case. Tracking that was handed in is gone after a failure.
pub fn capture(request: CaptureRequest<'_>) -> Result<Captured, CaptureError> {
    let pid = request.root_pid;
    ckpt_sys::fault::set_hook(|name| {
        // The points there are for dying at.
        let _ = fault::point(name);
    });
    capture_process(request).map_err(|error| error.or_exited(pid))
}

fn capture_process(request: CaptureRequest<'_>) -> CaptureResult<Captured> {
    let begin = Instant::now();
    let pid = request.root_pid;
    preflight::check_process(pid)?;
    if let Some(error) = preflight::unsupported(pid)?.into_iter().next() {
        return Err(error);
    }
    let parent = request.parent.filter(|_| !request.full);
    let earlier = earlier_calls(request.store, parent.as_ref(), pid)?;
    let mut tracking = request.tracking.unwrap_or_default();
    let mut writer = request.store.begin(request.job, parent.as_ref())?;
    let mut memory_stats = precopy::precopy(pid, &mut tracking, &mut writer)?;
    let mappings = maps::smaps(pid)?;
    let last_ran = LastRan::read(pid);
    let gadgets = Gadgets::find(pid, &ProcessMemory::open(pid)?)?;

    let (freeze, leftovers) = freeze::begin_recovered(pid)?;
    point("capture.seized")?;
    let before = Before { mappings, last_ran, earlier, leftovers, gadgets };
    let frozen = capture_frozen(request.job, &freeze, &mut tracking, before)?;
    point("capture.captured")?;
    // A job that is to end stays stopped until its checkpoint is safe.
    let (pause, held) = match request.after {
        After::Run => {
            let pause = freeze.elapsed();
            freeze.thaw();
            (pause, None)
        }
        After::Kill => (freeze.elapsed(), Some(freeze)),
    };
    point("capture.thawed")?;

    let (kind, parent) = (writer.kind(), parent);
    frozen.store(&mut writer, &mut memory_stats)?;
    let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let stats = Stats {
        pause_us: us(pause),
        pages_scanned: memory_stats.scanned,
        pages_dirty: memory_stats.dirty,
        bytes_memory: memory_stats.bytes,
        bytes_written: 0,
        data_files: 0,
        duration_us: us(begin.elapsed()),
    };
    let id = writer.commit(stats)?;
    let stats = request.store.manifest(&id)?.stats;
    let tracking = match held {
        Some(freeze) => {
            freeze.kill()?;
            None
        }
        None => Some(tracking),
    };
    Ok(Captured { id, kind, parent, stats, tracking })
}

/// What was read before the job stood still.
struct Before {
    mappings: Vec<Mapping>,
    last_ran: LastRan,
    earlier: HashMap<i32, Earlier>,
    /// Scratch areas of captures that were killed.
    leftovers: Vec<Scratch>,
    /// Where remote calls find a way back.
    gadgets: Option<Gadgets>,
}

/// Everything that was read while the job stood still.
struct Frozen {
    inventory: InventoryV1,
    task: TaskV1,
    threads: Vec<ThreadV1>,
    mm: MmV1,
    mappings: Vec<Mapping>,
    sighand: SighandV1,
    fs: FsV1,
    table: FdTableV1,
    objects: Objects,
    pages: pages::Copied,
}

fn capture_frozen(
    job: &str,
    freeze: &Freeze,
    tracking: &mut Tracking,
    before: Before,
) -> CaptureResult<Frozen> {
    let tids = freeze.tids();
    let pid = tids[0];
    let memory = ProcessMemory::open(pid)?;
    let process = Process { pid, pidfd: pidfd::open(pid)?, memory };
    let memory = &process.memory;
    let now = clock_ns(libc::CLOCK_MONOTONIC);
    let view = View { pid, last_ran: &before.last_ran, now, earlier: &before.earlier };
    let mut stills = Vec::with_capacity(tids.len());
    for &tid in &tids {
        stills.push(Still::read(tid, memory, &view)?);
    }
    let inventory = capture_inventory(job, pid, memory, stills[0].xstate())?;
    point("capture.registers")?;

    let mut objects = Objects::default();
    let mut injector =
        Injector::with_hints(pid, pid, memory, Hints { gadgets: before.gadgets, call: stills[0].call() })?;
    leftovers::remove(&process, &mut injector, before.leftovers)?;
    point("capture.injected")?;
    let task = task::capture_task(&mut injector, tids.clone(), freeze.was_stopped)?;
    let sighand = sighand::capture_sighand(&mut injector)?;
    point("capture.process")?;
    let (mut mm, mappings) =
        mm::capture_mm(&process, &mut injector, tracking, &mut objects, &before.mappings)?;
    point("capture.mappings")?;
    let pages = pages::copy(&process, &mut mm, tracking)?;
    point("capture.pages")?;
    let journal = Journal::new(injector.scratch(), memory);
    let table = files::capture_files(&process, &mut objects, &journal)?;
    let fs = fs::capture_fs(pid)?;
    point("capture.files")?;
    let scratch = injector.finish_keeping_scratch()?;

    let mut threads = Vec::with_capacity(tids.len());
    // The leader comes last and takes the scratch area away.
    for (&tid, still) in tids.iter().zip(stills).rev() {
        let mut injector = Injector::on_scratch(pid, tid, memory, scratch)?;
        if tid == pid {
            injector.own_scratch();
        }
        threads.push(capture_thread(&mut injector, still)?);
        injector.finish()?;
    }
    threads.reverse();
    point("capture.threads")?;
    Ok(Frozen { inventory, task, threads, mm, mappings, sighand, fs, table, objects, pages })
}

impl Frozen {
    fn store(mut self, writer: &mut CheckpointWriter, stats: &mut pages::MemoryStats) -> CaptureResult<()> {
        // It may be gone by now: then its flags were those of before.
        if let Ok(after) = maps::smaps(self.task.pid) {
            vma::settle(&mut self.mm.vmas, &self.mappings, &after);
        }
        writer.record(&self.inventory)?;
        writer.record(&self.task)?;
        for thread in &self.threads {
            writer.record(thread)?;
        }
        writer.record(&self.sighand)?;
        writer.record(&self.fs)?;
        writer.record(&self.mm)?;
        writer.record(&self.table)?;
        for file in &self.objects.open_files {
            writer.record(file)?;
        }
        for shmem in &self.objects.shmems {
            writer.record(shmem)?;
        }
        for ghost in &self.objects.ghosts {
            writer.record(ghost)?;
        }
        pages::store(self.pages, &self.objects, &self.mm, writer, stats)
    }
}

/// What the parent checkpoint says of threads whose calls it interrupted.
fn earlier_calls(
    store: &Store,
    parent: Option<&CheckpointId>,
    pid: i32,
) -> CaptureResult<HashMap<i32, Earlier>> {
    let Some(parent) = parent else { return Ok(HashMap::new()) };
    let image = store.image(parent)?;
    let inventory = image.inventory()?;
    // A process younger than the checkpoint was restored from it, and its time-outs began anew.
    let ticks = Stat::of(pid, pid)?.starttime;
    let born_ns = i64::try_from(ticks.saturating_mul(1_000_000_000 / clock_ticks())).unwrap_or(i64::MAX);
    let taken_at = (born_ns < inventory.boottime_ns).then_some(inventory.monotonic_ns);
    let threads: Vec<ThreadV1> = image.records()?;
    let calls = threads.into_iter().filter_map(|thread| {
        let restart = thread.restart?;
        Some((thread.tid, Earlier { restart, taken_at }))
    });
    Ok(calls.collect())
}

fn clock_ticks() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

/// A place where a test may make the capture fail.
fn point(name: &'static str) -> CaptureResult<()> {
    fault::point(name).map_err(|error| SysError::new("fault point", name, error).into())
}
