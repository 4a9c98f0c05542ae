//! The way of a restore: from nothing to a running job.
use crate::birth::{self, Births, Family, Member};
use crate::builder::Builder;
use crate::cgroups::{Cgroups, Seats};
use crate::connections::OutsideConnections;
use crate::content::Contents;
use crate::error::{RestoreError, RestoreResult};
use crate::lazy::Filling;
use crate::leader::{self, Leader};
use crate::memory_policy::MemoryPolicies;
use crate::message_queue::MessageQueues;
use crate::named_file::{self, ChangedFiles};
use crate::nameless::Nameless;
use crate::namespaces::{Further, Whereabouts};
use crate::one_processor::OneProcessor;
use crate::records::Records;
use crate::semaphores::Semaphores;
use crate::terminal::Handover;
use crate::tmpfs::TmpfsFiles;
use crate::{
    controls, dead_task, family, files, fs, huge_pages, machine, mm, pages, seccomp, sighand, task, thread,
    timer, unshared,
};
use ckpt_dirty::{Tracker, Tracking};
use ckpt_image::Image;
use ckpt_image::record::{TaskV1, VmaV1};
use ckpt_sys::inject::{Injector, Scratch};
use ckpt_sys::memory::ProcessMemory;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::RawFd;
use std::rc::Rc;

/// What to restore, and how.
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// The checkpoint.
    pub image: &'a Image,
    /// Our descriptors that the job's terminal or pipes to the outside are replaced by, for numbers 0, 1 and 2.
    pub stdio: [RawFd; 3],
    /// Track dirty pages from the first instruction on, so that the next checkpoint is incremental.
    pub track: bool,
    /// What becomes of TCP connections to the outside.
    pub outside: OutsideConnections,
    /// What becomes of it when files are not what they were.
    pub changed_files: ChangedFiles,
    /// Who makes the job's root.
    pub root: RootBirth,
    /// The control groups that it comes back in; None: all of it is in this process's.
    pub cgroups: Option<&'a Cgroups>,
    /// Who fills memory late; None: all is there before the job runs.
    pub filling: Option<&'a Filling>,
}

/// Who makes the root process of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RootBirth {
    /// This process: it becomes a child of this one.
    #[default]
    Child,
    /// This process, which was born in the job's PID namespace to a parent outside: it becomes a child of that one.
    Sibling,
    /// It is there already, and waits to be seized.
    Done,
}

/// A job that runs again.
#[derive(Debug)]
pub struct Restored {
    /// Its root task, a child of this process.
    pub root_pid: i32,
    /// Dirty-page tracking against the checkpoint, if asked for and possible.
    pub tracking: Option<Tracking>,
}

/// Brings a checkpoint back. The job's root task becomes a child of this process, or as the request says; all of its processes run when this returns.
///
/// # Errors
/// Whatever the image needs and this machine lacks; then nothing of the job runs.
pub fn restore(request: &RestoreRequest<'_>) -> Result<Restored, RestoreError> {
    let image = request.image;
    step("restore.begins");
    machine::check(image)?;
    huge_pages::check(image)?;
    named_file::check(image, request.changed_files)?;
    step("restore.checked");
    let records = Records::read(image)?;
    let handover = Handover::find(image, request.stdio)?;
    let mut beings = records.beings();
    if let Some(handover) = &handover {
        handover.join_session(&mut beings);
    }
    let steps =
        family::plan(&beings, &records.inner_pids).map_err(|what| RestoreError::Inconsistent { what })?;
    let slots = birth::slots(&steps);
    let mut contents = Contents::default();
    contents.nameless = Nameless::make(image)?;
    let policies = Rc::new(MemoryPolicies::read(image)?);
    contents.policies = Rc::clone(&policies);
    let tmpfs_files = TmpfsFiles::restore(image)?;
    let masters = files::Masters::open(image)?;
    let none = Cgroups::default();
    let cgroups = request.cgroups.unwrap_or(&none);
    let further = Rc::new(Further::make(image, cgroups)?);
    contents.further = Rc::clone(&further);
    let mut seats = Seats::new(cgroups);
    seats.begin();
    let births = Births {
        records: &records,
        image,
        contents: &mut contents,
        masters: &masters,
        slots: &slots,
        memories: BTreeMap::new(),
        root: request.root,
        further: &further,
        whereabouts: Whereabouts::default(),
        homes: BTreeMap::new(),
        late: request.filling.map(Filling::plan),
        seats: &mut seats,
    };
    step("restore.prepared");
    let one_processor = OneProcessor::stay();
    let (mut family, whereabouts) = births.carry_out(&steps)?;
    step("restore.born");
    further.make_late_clocks(&mut family)?;
    further.mount_late(&mut family, &whereabouts, &records.inner_pids)?;
    dead_task::bury(&mut family, &records.dead)?;
    request.filling.map_or(Ok(()), |filling| hand_over(filling, image, &records, &mut family))?;
    unshared::restore_unshared(&records, &mut family)?;
    step("restore.memory");

    let semaphores = restore_semaphores(&records, image, &mut family)?;
    let queues = restore_message_queues(&records, image, &mut family)?;
    further.restore_ipc(&mut family, &records.tasks.iter().map(|task| task.pid).collect::<Vec<_>>())?;
    let (connections, rings) =
        restore_files(request, &records, &mut contents, &mut family, (masters, &further))?;
    contents.finish_seals()?;
    contents.segments.finish()?;
    step("restore.files");
    let mut tracking = Tracking::default();
    let mut scratches = HashMap::new();
    let mut leaders = Vec::with_capacity(records.tasks.len());
    for task in &records.tasks {
        let Member { mut leader, mut builder } = taken(&mut family, task.pid)?;
        let unshared = unshared::Threads::take(&records, &mut family, task.pid);
        let objects = (request.image, &contents.nameless, further.as_ref());
        restore_shared(&mut builder, &records, task, &mut leader, &mut seats, objects, unshared)?;
        let (mm, own) = records.mm(task)?;
        if request.track && own && !records.handled_faults.any(mm.id) {
            let tracker = mm::start_tracking(&mut builder, image, mm);
            let own = tracker.as_ref().and_then(Tracker::descriptor);
            own.zip(request.filling).map_or(Ok(()), |(own, filling)| filling.track(mm.id, own))?;
            tracker.into_iter().for_each(|tracker| tracking.insert(tracker));
        }
        let memory = builder.remote.memory();
        scratches.insert(task.pid, (builder.remote.finish_keeping_scratch()?, memory));
        leaders.push(leader);
    }
    step("restore.threads");
    // Children first: the first process that has an address space comes last, and takes the scratch area away.
    for task in records.tasks.iter().rev() {
        let (scratch, memory) = scratches[&task.pid];
        restore_threads(&records, task, scratch, memory, (&rings, &policies))?;
    }
    step("restore.registers");
    drop(one_processor);
    connections.go_on()?;
    if let Some(handover) = &handover {
        handover.hand_over(&records.tasks)?;
    }
    seats.finish();
    for task in records.tasks.iter().rev() {
        leader::let_go(task, &records.tasks)?;
    }
    step("restore.runs");
    // It is told by our end, too.
    let _ = request.filling.map(Filling::go);
    if let Some(handover) = &handover {
        handover.tell(&records.tasks);
    }
    leaders.into_iter().for_each(Leader::keep);
    contents.segments.keep();
    contents.queues.keep();
    tmpfs_files.keep();
    semaphores.keep();
    queues.keep();
    Ok(Restored { root_pid: records.tasks[0].pid, tracking: (!tracking.is_empty()).then_some(tracking) })
}

/// A place of which the log tells the time.
fn step(name: &'static str) {
    tracing::trace!(name);
}

/// Whoever touches memory that comes late waits for it from now on, this process and the kernel included.
fn hand_over(
    filling: &Filling,
    image: &Image,
    records: &Records,
    family: &mut Family<'_>,
) -> RestoreResult<()> {
    filling.add_processes(&records.tasks)?;
    for task in &records.tasks {
        let (mm, own) = records.mm(task)?;
        if !own {
            continue;
        }
        let builder = &mut birth::member(family, task.pid)?.builder;
        if !filling.hand_over(builder, mm)? {
            let late = |vma: &VmaV1| filling.plan().has(mm.id, vma);
            pages::fill(task.pid, builder.remote.memory(), image, mm, late)?;
        }
    }
    Ok(())
}

fn taken<'m>(family: &mut Family<'m>, pid: i32) -> RestoreResult<Member<'m>> {
    let missing = || RestoreError::Inconsistent { what: format!("process {pid} was not made") };
    family.remove(&pid).ok_or_else(missing)
}

fn restore_semaphores(
    records: &Records,
    image: &Image,
    family: &mut Family<'_>,
) -> RestoreResult<Semaphores> {
    let pids: Vec<i32> = records.tasks.iter().map(|task| task.pid).collect();
    let mut semaphores = Semaphores::default();
    let builder = &mut birth::member(family, pids[0])?.builder;
    for set in image.records()? {
        semaphores.restore(builder, &set, &pids)?;
    }
    Ok(semaphores)
}

fn restore_message_queues(
    records: &Records,
    image: &Image,
    family: &mut Family<'_>,
) -> RestoreResult<MessageQueues> {
    let pids: Vec<i32> = records.tasks.iter().map(|task| task.pid).collect();
    let mut queues = MessageQueues::default();
    let builder = &mut birth::member(family, pids[0])?.builder;
    for queue in image.records()? {
        queues.restore(builder, &queue, &pids)?;
    }
    Ok(queues)
}

fn restore_files(
    request: &RestoreRequest<'_>,
    records: &Records,
    contents: &mut Contents,
    family: &mut Family<'_>,
    (masters, further): (files::Masters, &Further),
) -> RestoreResult<(files::Connections, files::Rings)> {
    let mut holders = Vec::new();
    let mut builders: HashMap<i32, _> =
        family.iter_mut().map(|(pid, member)| (*pid, &mut member.builder)).collect();
    for task in &records.tasks {
        if let (Some(table), Some(builder)) = (records.own_table(task)?, builders.remove(&task.pid)) {
            holders.push((builder, table));
        }
    }
    for thread in &records.unshared {
        if let (Some(id), Some(builder)) = (unshared::own_table(thread), builders.remove(&thread.tid)) {
            holders.push((builder, records.table(id, thread.tid)?));
        }
    }
    files::restore_files(holders, contents, request, further, masters)
}

/// All that the threads of a process share but memory and descriptors; and the threads themselves, without their state.
fn restore_shared(
    builder: &mut Builder<'_>,
    records: &Records,
    task: &TaskV1,
    leader: &mut Leader,
    seats: &mut Seats<'_>,
    (image, nameless, further): (&Image, &Nameless, &Further),
    mut unshared: unshared::Threads<'_, '_>,
) -> RestoreResult<()> {
    if let Some(fs) = records.own_fs(task)? {
        fs::restore_fs(builder, fs, nameless)?;
    }
    unshared.restore_fs(records, nameless)?;
    let (mm, own) = records.mm(task)?;
    if own {
        mm::seal(builder, mm)?;
        controls::restore_memory(builder, records.controls(task.pid)?)?;
    }
    task::restore_features(builder, task)?;
    if let Some(sighand) = records.own_sighand(task)? {
        sighand::restore_sighand(builder, sighand)?;
    }
    let threads = records.threads(task.pid);
    let is_alone = threads.len() < 2;
    // No thread can be made after that.
    if is_alone {
        further.choose_for_children(builder, &records.inner_pids)?;
    }
    further.join_users(builder, records)?;
    for thread in threads.iter().filter(|thread| thread.tid != task.pid && !unshared.has(thread.tid)) {
        thread::spawn_thread(builder, records, thread.tid)?;
        leader.add_thread(thread.tid);
    }
    threads
        .iter()
        .filter(|thread| thread.tid != task.pid)
        .for_each(|thread| seats.seat_thread(task.pid, thread.tid));
    if let Some(table) = records.own_table(task)? {
        files::restore_owners(builder, image, table)?;
    }
    if !is_alone {
        further.choose_for_children(builder, &records.inner_pids)?;
    }
    unshared.finish(records, image)?;
    task::restore_task(builder, task)?;
    timer::restore_posix_timers(builder, &task.posix_timers)?;
    task::restore_rlimits(builder, task)
}

/// One thread at a time: the scratch area has one recovery frame. The leader comes last.
fn restore_threads(
    records: &Records,
    task: &TaskV1,
    scratch: Scratch,
    memory: &ProcessMemory,
    (rings, policies): (&files::Rings, &MemoryPolicies),
) -> RestoreResult<()> {
    let (mm, own_mm) = records.mm(task)?;
    let threads = records.threads(task.pid);
    let controls = records.controls(task.pid)?;
    let mut filters = seccomp::Plan::new(&records.filters, &threads)?;
    filters.suspend()?;
    for thread in threads.into_iter().rev() {
        let mut builder = Builder::new(Injector::on_scratch(task.pid, thread.tid, memory, scratch)?);
        builder.remote.dies_with_us();
        rings.finish(&mut builder)?;
        if thread.tid == task.pid {
            sighand::restore_pending(&mut builder, &task.pending, true)?;
            timer::restore_itimers(&mut builder, &task.itimers)?;
        }
        if let Some(controls) = controls.threads.iter().find(|controls| controls.tid == thread.tid) {
            controls::restore_thread(&mut builder, controls)?;
        }
        policies.restore_thread(&mut builder)?;
        thread::restore_thread(&mut builder, thread, &mut filters)?;
        if thread.tid == task.pid && own_mm {
            mm::restore_dumpable(&mut builder, mm)?;
            builder.remote.own_scratch();
        }
        if let Some(restart) = &thread.restart {
            thread::restore_restart(&mut builder, restart)?;
        }
        builder.remote.finish()?;
    }
    Ok(())
}
