//! One stopped process: everything of it but its descriptors.
use crate::buffer::Spares;
use crate::error::CaptureResult;
use crate::files::Journal;
use crate::interrupted::{Earlier, LastRan};
use crate::inventory::clock_ns;
use crate::objects::Objects;
use crate::process::Process;
use crate::sharing::Shared;
use crate::thread::{Still, View, ask_thread, capture_thread};
use crate::tree::Member;
use crate::{capture, controls, files, fs, leftovers, mm, pages, shared_pages, sighand, task, vma};
use ckpt_dirty::Tracking;
use ckpt_image::CheckpointWriter;
use ckpt_image::record::{
    BackingV1, ControlsV1, FdTableId, FsId, FsV1, MmV1, SighandId, SighandV1, TaskV1, ThreadV1, UnsharedV1,
    VmaV1,
};
use ckpt_sys::inject::{Gadgets, Hints, Injector};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::pidfd;
use ckpt_sys::proc::maps::{self, Mapping};
use std::collections::HashMap;

/// What was read of a process before the job stood still.
#[derive(Debug, Default)]
pub(crate) struct Before {
    mappings: Vec<Mapping>,
    last_ran: LastRan,
    /// Where remote calls find a way back.
    gadgets: Option<Gadgets>,
}

impl Before {
    /// Reads process `pid`, which runs.
    pub(crate) fn read(pid: i32) -> CaptureResult<Self> {
        let gadgets = Gadgets::find(pid, &ProcessMemory::open(pid)?)?;
        Ok(Self { mappings: maps::smaps(pid)?, last_ran: LastRan::read(pid), gadgets })
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
    /// None: another process's record has it, for they share it.
    memory: Option<Memory>,
    sighand: Option<SighandV1>,
    fs: Option<FsV1>,
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
        let view = View { pid, last_ran: &before.last_ran, now, earlier };
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
        let mut injector = Injector::with_hints(pid, pid, memory, hints)?;
        injector.end_batches_by(stills[0].meaningless_signal());
        leftovers::remove(&process, &mut injector, &member.leftovers, &job.pids)?;
        capture::point("capture.injected")?;
        let owners = job.shared.of(pid);
        let told = Told::ask(&mut injector)?;
        let stopped_by = member.freeze.stopped_by;
        let mut task = task::capture_task(&mut injector, told.task, tids.clone(), stopped_by)?;
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
        let (mdwe, memory_merge) = if owned.is_some() { told.controls } else { (0, false) };
        let fs = own(owners.fs).map(|()| fs::capture_fs(pid, &mut job.objects)).transpose()?;
        files(job, &process, &Journal::new(injector.scratch(), memory))?;
        let scratch = injector.finish_keeping_scratch()?;

        let rings = owned.as_ref().is_none_or(|memory| has_rings(&memory.mm));
        let mut controls = ControlsV1 { pid, mdwe, memory_merge, threads: Vec::with_capacity(tids.len()) };
        let mut threads = Vec::with_capacity(tids.len());
        // The leader comes last and takes the scratch area away.
        for (&tid, still) in tids.iter().zip(stills).rev() {
            let mut injector = Injector::stand_with(pid, still.standing(tid), memory, scratch)?;
            if tid == pid {
                injector.own_scratch();
            }
            if rings {
                job.objects.ring_users.ask(&mut injector)?;
            }
            injector.end_batches_by(still.meaningless_signal());
            let mut batch = injector.batch();
            let asked = (ask_thread(pid, &mut batch), controls::ask_thread(pid, &mut batch));
            let answers = injector.run(batch)?;
            let (told, told_controls) = (asked.0(&answers)?, asked.1(&answers)?);
            controls.threads.push(controls::capture_thread(
                pid,
                tid,
                &told_controls,
                before.last_ran.flags(tid),
                &still.status,
            )?);
            threads.push(capture_thread(pid, tid, still, told, &mut job.objects.filters)?);
            injector.finish()?;
        }
        threads.reverse();
        capture::point("capture.threads")?;
        Ok((ProcessState { task, threads, controls, memory: owned, sighand, fs }, process))
    }
}

/// What only a process itself can tell.
struct Told {
    task: task::Told,
    sighand: SighandV1,
    mm: mm::Told,
    /// PR_GET_MDWE and PR_GET_MEMORY_MERGE.
    controls: (u32, bool),
}

impl Told {
    /// Asks for all at once.
    fn ask(injector: &mut Injector<'_>) -> CaptureResult<Self> {
        let pid = injector.pid();
        let mut batch = injector.batch();
        let task = task::ask_task(pid, &mut batch);
        let sighand = sighand::ask_sighand(pid, &mut batch);
        let mm = mm::ask_mm(pid, &mut batch);
        let controls = controls::ask_memory(&mut batch);
        let answers = injector.run(batch)?;
        let controls = controls(&answers);
        Ok(Self { task: task(&answers)?, sighand: sighand(&answers)?, mm: mm(&answers)?, controls })
    }
}

fn capture_memory(
    process: &Process,
    injector: &mut Injector<'_>,
    told: &mm::Told,
    job: &mut Job<'_>,
    before: &[Mapping],
) -> CaptureResult<Memory> {
    let (mut mm, mappings) = mm::capture_mm(process, injector, told, job.tracking, &mut job.objects, before)?;
    capture::point("capture.mappings")?;
    if has_rings(&mm) {
        for buffer in files::quiesce(process.pid)? {
            job.tracking.tracker(process.pid).doubt(buffer);
        }
    }
    let pages = Pages::Found(pages::find(process, &mut mm, job.tracking)?);
    capture::point("capture.dirty")?;
    Ok(Memory { mm, mappings, pages })
}

/// Copies the pages of all processes, `holders` in the same order as `states`, parents before their children.
pub(crate) fn copy_pages<'p>(
    states: &mut [ProcessState],
    holders: impl Iterator<Item = &'p Process>,
    spares: &mut Spares,
) -> CaptureResult<()> {
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
        let pages = Pages::Copied(pages::copy(process, found, spares, alone)?);
        state.memory = Some(Memory { mm, mappings, pages });
    }
    capture::point("capture.pages")
}

fn has_rings(mm: &MmV1) -> bool {
    mm.vmas.iter().any(|vma| matches!(vma.backing, BackingV1::IoUring { .. }))
}

impl ProcessState {
    /// Its mappings, if no other process's record has them.
    pub(crate) fn mappings(&self) -> impl Iterator<Item = (i32, &VmaV1)> {
        let vmas = self.memory.iter().flat_map(|memory| &memory.mm.vmas);
        vmas.map(|vma| (self.task.pid, vma))
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
