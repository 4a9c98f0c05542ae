//! One stopped process: everything of it but its descriptors.
use crate::buffer::Spares;
use crate::clone::{Candidate, Permit};
use crate::error::CaptureResult;
use crate::files::Journal;
use crate::interrupted::{Earlier, LastRan};
use crate::inventory::clock_ns;
use crate::objects::Objects;
use crate::process::Process;
use crate::sharing::Shared;
use crate::thread::{Still, View};
use crate::threads::{Asking, Threads, capture_threads};
use crate::tree::Member;
use crate::{
    capture, controls, departed, files, fs, leftovers, memory_policy, mm, pages, shared_pages, sighand, task,
    vma,
};
use ckpt_dirty::Tracking;
use ckpt_image::CheckpointWriter;
use ckpt_image::record::{
    BackingV1, ControlsV1, FdTableId, FsId, FsV1, MemoryPolicyV1, MmV1, SeccompV1, SighandId, SighandV1,
    TaskV1, ThreadV1, UnsharedV1, VmaV1,
};
use ckpt_sys::inject::{Gadgets, Hints, Injector};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::pidfd;
use ckpt_sys::proc::maps::{self, Mapping};
use ckpt_sys::proc::status::OpenStatus;
use std::collections::HashMap;
use std::ops::Range;

/// What was read of a process before the job stood still.
#[derive(Debug, Default)]
pub(crate) struct Before {
    mappings: Vec<Mapping>,
    last_ran: LastRan,
    statuses: HashMap<i32, OpenStatus>,
    /// Where remote calls find a way back.
    gadgets: Option<Gadgets>,
    policies: memory_policy::Suspected,
}

impl Before {
    /// Reads process `pid`, which runs.
    pub(crate) fn read(pid: i32) -> CaptureResult<Self> {
        let gadgets = Gadgets::find(pid, &ProcessMemory::open(pid)?)?;
        let last_ran = LastRan::read(pid);
        let statuses = last_ran.tids().filter_map(|tid| Some((tid, OpenStatus::of(pid, tid).ok()?)));
        let statuses = statuses.collect();
        let policies = memory_policy::Suspected::read(pid)?;
        Ok(Self { mappings: maps::smaps(pid)?, last_ran, statuses, gadgets, policies })
    }

    /// Bytes of memory, about, that it takes to capture the process, but for its descriptors and pages.
    pub(crate) fn size(&self) -> usize {
        const THREAD: usize = 16 << 10;
        const MAPPING: usize = 2 << 10;
        self.statuses.len() * THREAD + self.mappings.len() * MAPPING
    }

    /// The threads that there were.
    pub(crate) fn threads(&self) -> impl Iterator<Item = i32> + use<'_> {
        self.last_ran.tids()
    }
}

/// What is common to all processes of a capture.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Tracks dirty pages.
    pub(crate) tracking: &'a mut Tracking,
    /// The processes.
    pub(crate) pids: Vec<i32>,
    /// What descriptors and mappings share.
    pub(crate) objects: Objects,
    /// What processes share.
    pub(crate) shared: Shared,
    /// What threads do not share with their processes.
    pub(crate) unshared: Vec<UnsharedV1>,
    /// Requests may have ended since the job stood still, and changed what descriptors are of.
    pub(crate) requests_ended: bool,
}

/// An address space as it was when the job stood still.
#[derive(Debug)]
struct Memory {
    mm: MmV1,
    mappings: Vec<Mapping>,
    pages: Pages,
}

/// Its private pages.
#[derive(Debug)]
enum Pages {
    Found(pages::Found),
    Copied(pages::Copied),
}

/// Everything that was read of a process while the job stood still.
#[derive(Debug)]
pub(crate) struct ProcessState {
    task: TaskV1,
    threads: Vec<ThreadV1>,
    controls: ControlsV1,
    policies: MemoryPolicyV1,
    /// None: another process's record has it, for they share it.
    memory: Option<Memory>,
    sighand: Option<SighandV1>,
    fs: Option<FsV1>,
    /// The thread that made its calls, and what is known of it.
    caller: (i32, Hints),
}

/// A stopped process, and what its threads were found in.
#[derive(Debug)]
pub(crate) struct Stopped<'a> {
    /// The process.
    pub(crate) process: Process,
    member: &'a Member,
    stills: Vec<Still>,
}

impl<'a> Stopped<'a> {
    /// Reads the registers of all threads, before anything is run in them. `earlier`: the system calls that the parent checkpoint interrupted,
    /// by thread.
    pub(crate) fn read(
        member: &'a Member,
        before: &Before,
        earlier: &HashMap<i32, Earlier>,
    ) -> CaptureResult<Self> {
        let pid = member.pid();
        let memory = ProcessMemory::open(pid)?;
        let now = clock_ns(libc::CLOCK_MONOTONIC);
        let view = View { pid, last_ran: &before.last_ran, statuses: &before.statuses, now, earlier };
        let tids = member.freeze.tids();
        let stills =
            tids.iter().map(|&tid| Still::read(tid, &memory, &view)).collect::<CaptureResult<_>>()?;
        Ok(Self { process: Process { pid, pidfd: pidfd::open(pid)?, memory }, member, stills })
    }

    /// The extended state of the first thread.
    pub(crate) fn xstate(&self) -> &[u8] {
        self.stills[0].xstate()
    }

    /// The system calls that its threads were stopped in: number and first argument.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (u64, u64)> {
        self.stills.iter().filter_map(Still::interrupted_call)
    }

    /// Captures all but the descriptors. `files` may do so, as long as there is a journal in the process for what is changed for a moment.
    pub(crate) fn capture(
        self,
        job: &mut Job<'_>,
        before: &Before,
        files: impl FnOnce(&mut Job<'_>, &Process, &Journal<'_>) -> CaptureResult<()>,
    ) -> CaptureResult<(ProcessState, Process)> {
        let Self { process, member, stills } = self;
        let pid = process.pid;
        let memory = &process.memory;
        let tids = member.freeze.tids();

        let hints = Hints { gadgets: before.gadgets, call: stills[0].call() };
        let caller = (tids[0], hints);
        let mut injector = Injector::with_hints(pid, tids[0], memory, hints)?;
        injector.end_batches_by(stills[0].meaningless_signal());
        injector.known_as(stills[0].status.inner_ids());
        leftovers::remove(&process, &mut injector, &member.leftovers, &job.pids)?;
        capture::point("capture.injected")?;
        let owners = job.shared.of(pid);
        let mappings = if owners.memory == pid { &before.mappings[..] } else { &[] };
        let mut told = Told::ask(&mut injector, (mappings, &before.policies))?;
        let stopped_by = member.freeze.stopped_by;
        let all = departed::with_leader(pid, tids.clone());
        let mut task = task::capture_task(&mut injector, told.task, all, stopped_by)?;
        task.ppid = member.parent;
        task.mm = mm::id(owners.memory);
        task.fd_table = FdTableId(owners.files.unsigned_abs());
        task.fs = FsId(owners.fs.unsigned_abs());
        task.sighand = SighandId(owners.sighand.unsigned_abs());
        let own = |owner: i32| (owner == pid).then_some(());
        let sighand = own(owners.sighand).map(|()| told.sighand);
        capture::point("capture.process")?;
        let owned = own(owners.memory)
            .map(|()| capture_memory(&process, &mut injector, &told.mm, job, &before.mappings));
        let owned = owned.transpose()?;
        let mut policies = MemoryPolicyV1 { pid, ..MemoryPolicyV1::default() };
        if let Some(Memory { mm, mappings, .. }) = &owned {
            policies.mappings = memory_policy::capture_mappings(
                &mut injector,
                (&before.policies, &mut told.policies),
                (&mm.vmas, mappings),
            )?;
        }
        let (mdwe, memory_merge) = if owned.is_some() { told.controls } else { (0, false) };
        let fs = own(owners.fs).map(|()| fs::capture_fs(pid, &mut job.objects)).transpose()?;
        files(job, &process, &Journal::new(injector.scratch(), memory))?;
        let scratch = injector.finish_keeping_scratch()?;

        let rings = owned.as_ref().is_none_or(|memory| has_rings(&memory.mm));
        let objects = &mut job.objects;
        let asking = Asking {
            process: &process,
            scratch,
            last_ran: &before.last_ran,
            ring_users: rings.then_some(&mut objects.ring_users),
            filters: &mut objects.filters,
        };
        let Threads { records: mut threads, controls, policies: of_threads } =
            capture_threads(asking, tids.into_iter().zip(stills))?;
        departed::add_leader(pid, memory, &mut threads)?;
        let controls = ControlsV1 { pid, mdwe, memory_merge, threads: controls };
        policies.threads = of_threads;
        Ok((ProcessState { task, threads, controls, policies, memory: owned, sighand, fs, caller }, process))
    }
}

/// What only a process itself can tell.
struct Told {
    task: task::Told,
    sighand: SighandV1,
    mm: mm::Told,
    /// PR_GET_MDWE and PR_GET_MEMORY_MERGE.
    controls: (u32, bool),
    policies: memory_policy::Told,
}

impl Told {
    /// Asks for all at once; `mappings`: those that there were, if they are its own.
    fn ask(
        injector: &mut Injector<'_>,
        (mappings, suspected): (&[Mapping], &memory_policy::Suspected),
    ) -> CaptureResult<Self> {
        let pid = injector.pid();
        let mut batch = injector.batch();
        let task = task::ask_task(pid, &mut batch);
        let sighand = sighand::ask_sighand(pid, &mut batch);
        let mm = mm::ask_mm(pid, &mut batch);
        let controls = controls::ask_memory(&mut batch);
        let policies = memory_policy::ask_mappings(mappings, suspected, &mut batch);
        let answers = injector.run(batch)?;
        let (controls, policies) = (controls(&answers), policies(&answers));
        Ok(Self { task: task(&answers)?, sighand: sighand(&answers)?, mm: mm(&answers)?, controls, policies })
    }
}

fn capture_memory(
    process: &Process,
    injector: &mut Injector<'_>,
    told: &mm::Told,
    job: &mut Job<'_>,
    before: &[Mapping],
) -> CaptureResult<Memory> {
    let table = job.shared.of(process.pid).files;
    job.objects.userfaultfds.claim(injector, table)?;
    let (mut mm, mappings) = mm::capture_mm(process, injector, told, job.tracking, &mut job.objects, before)?;
    capture::point("capture.mappings")?;
    let requests = |vma: &VmaV1| matches!(vma.backing, BackingV1::IoUring { .. } | BackingV1::AioRing(_));
    job.requests_ended |= mm.vmas.iter().any(requests);
    if has_rings(&mm) {
        for buffer in files::quiesce(process.pid)? {
            job.tracking.tracker(process.pid).doubt(buffer);
        }
    }
    let pages = Pages::Found(pages::find(process, &mut mm, job.tracking, &mut job.objects.userfaultfds)?);
    capture::point("capture.dirty")?;
    Ok(Memory { mm, mappings, pages })
}

/// Copies the pages of all processes, `holders` in the same order as `states`, parents before their children.
pub(crate) fn copy_pages<'p>(
    states: &mut [ProcessState],
    holders: impl Iterator<Item = &'p Process>,
    spares: &mut Spares,
    mut permit: Permit,
) -> CaptureResult<()> {
    // Who adopts the clone is not to be of the job, and what is left of a helper when we are killed would be subject to a filter.
    let adopts = |state: &ProcessState| state.task.child_subreaper || state.task.pid == 1;
    if states.iter().any(|state| adopts(state) || state.is_filtered()) {
        permit = Permit::default();
    }
    let memories = states.iter_mut().filter_map(|state| state.memory.as_mut());
    let mut found: Vec<&mut pages::Found> = memories
        .filter_map(|memory| match &mut memory.pages {
            Pages::Found(found) => Some(found),
            Pages::Copied(_) => None,
        })
        .collect();
    shared_pages::find(&mut found)?;
    let alone = found.len() < 2;
    for (state, process) in states.iter_mut().zip(holders) {
        let Some(Memory { mm, mappings, pages: Pages::Found(found) }) = state.memory.take() else { continue };
        let (tid, hints) = state.caller;
        let candidate = Candidate { process, tid, hints, mappings: &mappings };
        let pages = Pages::Copied(pages::copy(candidate, found, spares, alone, &mut permit)?);
        state.memory = Some(Memory { mm, mappings, pages });
    }
    capture::point("capture.pages")
}

fn has_rings(mm: &MmV1) -> bool {
    mm.vmas.iter().any(|vma| matches!(vma.backing, BackingV1::IoUring { .. }))
}

impl ProcessState {
    /// So many ns have passed since its threads were looked at: there is less left of what they wait for.
    pub(crate) fn pass(&mut self, ns: u64) {
        let restarts = self.threads.iter_mut().filter_map(|thread| thread.restart.as_mut());
        restarts
            .filter_map(|restart| restart.remaining_ns.as_mut())
            .for_each(|left| *left = left.saturating_sub(ns));
    }

    /// Whether a thread has a filter of system calls.
    fn is_filtered(&self) -> bool {
        self.threads.iter().any(|thread| thread.seccomp != SeccompV1::Disabled)
    }

    /// Its mappings, if no other process's record has them.
    pub(crate) fn mappings(&self) -> impl Iterator<Item = (i32, &VmaV1)> {
        let vmas = self.memory.iter().flat_map(|memory| &memory.mm.vmas);
        vmas.map(|vma| (self.task.pid, vma))
    }

    /// Pages that were copied of it.
    pub(crate) fn pages_copied(&self) -> u64 {
        match &self.memory {
            Some(Memory { pages: Pages::Copied(copied), .. }) => copied.pages(),
            _ => 0,
        }
    }

    /// Whose memory its record has, and which of its pages were dirty in the pause.
    pub(crate) fn pages_dirty(&self) -> Option<(i32, &[Range<u64>])> {
        match &self.memory {
            Some(Memory { pages: Pages::Copied(copied), .. }) => Some((self.task.pid, copied.dirty())),
            _ => None,
        }
    }

    /// Its clone, if it has one.
    pub(crate) fn clone_pid(&self) -> Option<i32> {
        match &self.memory {
            Some(Memory { pages: Pages::Copied(copied), .. }) => copied.clone_pid(),
            _ => None,
        }
    }

    /// The process's record.
    pub(crate) fn task(&self) -> &TaskV1 {
        &self.task
    }

    /// Its address space, if its record has it.
    pub(crate) fn mm(&self) -> Option<&MmV1> {
        self.memory.as_ref().map(|memory| &memory.mm)
    }

    /// Stores all of it; the job runs meanwhile.
    pub(crate) fn store(
        self,
        writer: &mut CheckpointWriter,
        stats: &mut pages::MemoryStats,
    ) -> CaptureResult<()> {
        writer.record(&self.task)?;
        writer.record(&self.controls)?;
        if !self.policies.threads.is_empty() || !self.policies.mappings.is_empty() {
            writer.record(&self.policies)?;
        }
        for thread in &self.threads {
            writer.record(thread)?;
        }
        if let Some(sighand) = &self.sighand {
            writer.record(sighand)?;
        }
        if let Some(fs) = &self.fs {
            writer.record(fs)?;
        }
        let Some(mut memory) = self.memory else { return Ok(()) };
        // It may be gone by now: then its flags were those of before.
        if let Ok(after) = maps::smaps(self.task.pid) {
            vma::settle(&mut memory.mm.vmas, &memory.mappings, &after);
        }
        writer.record(&memory.mm)?;
        match memory.pages {
            Pages::Copied(copied) => pages::store(copied, &memory.mm, writer, stats),
            Pages::Found(_) => Ok(()),
        }
    }
}
