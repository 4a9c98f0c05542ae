//! The way of a checkpoint: what is done before, within and after the pause.
use crate::buffer::Spares;
use crate::cgroups::{FrozenGroups, Groups, Standstill};
use crate::clone::Permit;
use crate::connections::{Held, OutsideConnections};
use crate::error::{CaptureError, CaptureResult};
use crate::files::{Ahead, Descriptors, Journal};
use crate::interrupted::Earlier;
use crate::inventory::{self, capture_inventory};
use crate::message_queue::capture_message_queues;
use crate::named_file::{self, NamedFiles};
use crate::namespaces::{Further, Namespaces};
use crate::objects::Objects;
use crate::orphans::{self, Orphans};
use crate::pages::MemoryStats;
use crate::process::Process;
use crate::process_state::{self, Before, Job, ProcessState, Stopped};
use crate::semaphores::capture_semaphores;
use crate::sharing::Shared;
use crate::sysv_users::Waits;
use crate::tree::{self, Tree};
use crate::unix_peers::UnixPeers;
use crate::urgent::Urgent;
use crate::userfaultfd::{self, Userfaultfds};
use crate::{files, pages, precopy, preflight, unshared};
use ckpt_dirty::Tracking;
use ckpt_dirty::ranges::merged;
use ckpt_image::page::PAGE_SIZE;
use ckpt_image::record::{
    DeadTaskV1, FdTableV1, FsV1, InventoryV1, MessageQueueV1, NamespacesV1, OpenFileId, SemaphoresV1,
    UnsharedV1,
};
use ckpt_image::{CheckpointId, CheckpointWriter, Kind, Stats, Store, fault};
use ckpt_sys::lent_memory::LentMemory;
use ckpt_sys::namespace::Namespace;
use ckpt_sys::{SysError, heap};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

/// Pages that are expected to be written between pre-copy and pause, at least.
const SPARE_PAGES: u64 = 512;
/// Bytes of memory for copies that are kept from one save to the next, at most: what is more than that takes so long that it hardly matters.
const LENT_MAX: u64 = 512 << 20;
/// Pid of the first process of a PID namespace.
const FIRST_PROCESS: i32 = 1;

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
    /// Bytes of copies of pages that are made before the pause, and kept until they are stored after it, at most.
    pub copies_max: u64,
    /// Memory for them that earlier captures have used ([`ckpt_sys::lent_memory::make`]); None: all of it is fresh.
    pub lent: Option<OwnedFd>,
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
    /// What becomes of its TCP connections to the outside.
    pub outside: OutsideConnections,
    /// What becomes of its AF_UNIX connections to the outside.
    pub unix_peers: UnixPeers,
    /// The namespaces that the job has for itself; this process is in them.
    pub namespaces: &'a Namespaces,
    /// How its processes are found whose parents have ended.
    pub orphans: &'a Orphans,
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
    /// Pages that were copied in the pause.
    pub pages_frozen: u64,
    /// Dirty-page tracking since this checkpoint; None when the job was killed.
    pub tracking: Option<Tracking>,
    /// Its processes, and when they were started (clock ticks).
    pub members: BTreeMap<i32, u64>,
    /// The job is saved, but could not be killed from here: its root is the first process of the PID namespace that this process is in.
    pub stopped: Option<StoppedJob>,
}

/// A job that stands still. Dropping this lets it run: keep it until the job's root is killed from outside of its PID namespace, which ends this
/// process, too.
#[derive(Debug)]
pub struct StoppedJob {
    _tree: Tree,
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
    capture_job(request).map_err(|error| error.or_exited(pid))
}

fn capture_job(request: CaptureRequest<'_>) -> CaptureResult<Captured> {
    let begin = Instant::now();
    let root = request.root_pid;
    preflight::check_process(root)?;
    preflight::check_inside(root, request.namespaces)?;
    if let Some(error) = preflight::unsupported_in_job(root, request.orphans)?.into_iter().next() {
        return Err(error);
    }
    let outside = &request.namespaces.cgroups;
    let groups = Groups::read(&tree::members(root, request.orphans), outside)?;
    let mut frozen_groups = FrozenGroups::of(&groups)?;
    frozen_groups.stand_by()?;
    let standstill = if frozen_groups.is_empty() { Standstill::prepare(&groups, root) } else { None };
    let parent = request.parent.filter(|_| !request.full);
    let parent_image = parent.as_ref().map(|id| request.store.image_records(id)).transpose()?;
    let earlier = Earlier::of_threads(parent_image.as_ref())?;
    let known_files = NamedFiles::earlier(parent_image.as_ref())?;
    drop(parent_image);
    let mut tracking = request.tracking.unwrap_or_default();
    let mut writer = request.store.begin(request.job, parent.as_ref())?;
    let lent = lent_memory(request.lent, request.copies_max);
    let early_max = request.copies_max;
    let mut memory_stats = MemoryStats { early_max, lent: lent.clone(), ..MemoryStats::default() };
    let members = tree::members(root, request.orphans);
    let mut left = 0;
    if frozen_groups.is_empty() {
        left = precopy::precopy_job(&members, &mut tracking, &mut writer, &mut memory_stats)?;
    }
    // A clone that is born frozen could not make calls; and a job that is to stay stopped has time.
    let clones = request.after == After::Run && frozen_groups.is_empty();
    let clones =
        if clones { Permit::prepare(request.copies_max, left * PAGE_SIZE as u64) } else { Permit::default() };
    // Pages go on being written until the job stands still.
    let spares = Spares::prepare((2 * left + SPARE_PAGES) * PAGE_SIZE as u64, lent.as_ref());
    // What is read from here on is to be read again as little as can be.
    let urgent = Urgent::begin();
    let before = read_before(root, request.orphans)?;
    let ahead = Ahead::read(&tree::members(root, request.orphans));
    let prepared = Prepared { before, earlier, spares, ahead, clones };

    heap::populate(prepared.size());

    let groups = Groups::read_settings(&tree::members(root, request.orphans), outside)?;
    let net = request.namespaces.read_ahead()?;
    let further = Further::find(&tree::members(root, request.orphans))?.read_ahead(&groups)?;
    let tree = Tree::freeze(root, request.orphans, frozen_groups, standstill, prepared.threads())?;
    point("capture.seized")?;
    let held = Held::new(request.outside, request.after == After::Kill);
    let further = further.again(&tree.pids(), &groups)?;
    let objects = Objects::new(held, request.unix_peers, further);
    let mut frozen = capture_frozen(request.job, &tree, &mut tracking, prepared, objects)?;
    let further = frozen.objects.capture_further(&frozen.dead)?;
    let namespaces = request.namespaces.capture(net)?;
    frozen.objects.check_interfaces(root, namespaces.as_ref(), &further)?;
    let groups = Groups::read_again(tree.threads(), outside, Some(groups))?.beside(frozen.clones());
    let cgroups = groups.capture(tree.frozen_groups())?;
    let connections = std::mem::take(&mut frozen.objects.held);
    let pages_frozen = frozen.pages_copied();
    point("capture.captured")?;
    tracking.retain(&frozen.pids());
    let members = orphans::start_times(frozen.pids().into_iter())?;
    // A job that is to end stays stopped until its checkpoint is safe.
    let pause = tree.elapsed();
    let held = match request.after {
        After::Run => {
            tree.thaw();
            None
        }
        After::Kill => Some(tree),
    };
    point("capture.thawed")?;
    for (pid, written) in frozen.written(&mut memory_stats) {
        // A full checkpoint takes all pages, written or not.
        let told = (writer.kind() == Kind::Incremental).then_some(&written[..]);
        if held.is_none() {
            tracking.tracker(pid).end(told);
        }
    }
    drop(urgent);
    writer.be_patient();
    let (kind, parent) = (writer.kind(), parent);
    frozen.store(&known_files, &mut writer, &mut memory_stats)?;
    namespaces.iter().try_for_each(|record: &NamespacesV1| writer.record(record))?;
    further.iter().try_for_each(|record| writer.record(record))?;
    writer.record(&cgroups)?;
    lent.iter().for_each(|lent| lent.trim());
    let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let stats = Stats {
        pause_us: us(pause),
        pages_scanned: memory_stats.scanned,
        pages_dirty: memory_stats.dirty,
        bytes_memory: writer.pages_stored() * PAGE_SIZE as u64,
        bytes_written: 0,
        data_files: 0,
        duration_us: us(begin.elapsed()),
    };
    let id = writer.commit(stats)?;
    let stats = request.store.manifest(&id)?.stats;
    let (tracking, stopped) = match held {
        // A signal from within its namespace does not kill its first process.
        Some(tree) if root == FIRST_PROCESS => {
            connections.leave(&id);
            (None, Some(StoppedJob { _tree: tree }))
        }
        Some(tree) => {
            tree.kill()?;
            connections.leave(&id);
            (None, None)
        }
        None => (Some(tracking), None),
    };
    Ok(Captured { id, kind, parent, stats, pages_frozen, tracking, members, stopped })
}

fn lent_memory(file: Option<OwnedFd>, copies_max: u64) -> Option<Rc<LentMemory>> {
    let lent = LentMemory::take_turn(file?, copies_max.min(LENT_MAX));
    lent.inspect_err(|error| tracing::debug!(%error, "copies are made in fresh memory")).ok().map(Rc::new)
}

fn read_before(root: i32, orphans: &Orphans) -> CaptureResult<HashMap<i32, Before>> {
    let mut before = HashMap::new();
    for pid in tree::members(root, orphans) {
        if let Some(read) = if_alive(root, pid, Before::read(pid))? {
            before.insert(pid, read);
        }
    }
    Ok(before)
}

/// What failed because process `pid` has ended is None, unless that is the root.
pub(crate) fn if_alive<T>(root: i32, pid: i32, outcome: CaptureResult<T>) -> CaptureResult<Option<T>> {
    match outcome.map_err(|error| error.or_exited(pid)) {
        Ok(value) => Ok(Some(value)),
        Err(CaptureError::Exited { .. } | CaptureError::NoProcess { .. }) if pid != root => Ok(None),
        Err(error) => Err(error),
    }
}

/// What was made ready while the job ran.
struct Prepared {
    before: HashMap<i32, Before>,
    /// What the parent checkpoint says of threads whose calls it interrupted.
    earlier: HashMap<i32, Earlier>,
    spares: Spares,
    ahead: Ahead,
    clones: Permit,
}

impl Prepared {
    /// All threads that there were.
    fn threads(&self) -> BTreeSet<i32> {
        self.before.values().flat_map(Before::threads).collect()
    }

    /// Bytes of memory, about, that the pause takes for all but pages.
    fn size(&self) -> usize {
        const LEAST: usize = 2 << 20;
        const DESCRIPTOR: usize = 4 << 10;
        let processes: usize = self.before.values().map(Before::size).sum();
        LEAST + processes + self.ahead.len() * DESCRIPTOR
    }
}

/// Everything that was read while the job stood still.
struct Frozen {
    inventory: InventoryV1,
    processes: Vec<ProcessState>,
    dead: Vec<DeadTaskV1>,
    tables: Vec<FdTableV1>,
    unshared: Vec<UnsharedV1>,
    directories: Vec<FsV1>,
    semaphores: Vec<SemaphoresV1>,
    message_queues: Vec<MessageQueueV1>,
    objects: Objects,
    /// Their end takes time.
    _read_before: (Descriptors, HashMap<i32, Before>),
}

fn capture_frozen(
    name: &str,
    tree: &Tree,
    tracking: &mut Tracking,
    prepared: Prepared,
    mut objects: Objects,
) -> CaptureResult<Frozen> {
    let Prepared { before: read_before, earlier, mut spares, ahead, clones } = prepared;
    let unread = Before::default();
    let before = |pid: i32| read_before.get(&pid).unwrap_or(&unread);
    let mut stopped = Vec::with_capacity(tree.members().len());
    for member in tree.members() {
        stopped.push(Stopped::read(member, before(member.pid()), &earlier)?);
    }
    let mut waits = Waits::default();
    // What others wait at is in namespaces of theirs.
    let is_here = |stopped: &&Stopped<'_>| objects.further.of(Namespace::Ipc, stopped.process.pid).is_none();
    stopped.iter().filter(is_here).flat_map(Stopped::calls).for_each(|call| waits.add(call));
    let root = &stopped[0];
    let root_pid = root.process.pid;
    let mut inventory = capture_inventory(name, root_pid, &root.process.memory, root.xstate())?;
    point("capture.registers")?;

    let pids = tree.pids();
    let shared = Shared::find(&pids)?;
    tree.members().iter().try_for_each(|member| shared.check(member.pid(), member.parent))?;
    let unshared = unshared::capture_unshared(tree.members())?;
    let table_owners = pids.iter().copied().filter(|pid| shared.of(*pid).files == *pid);
    let mut descriptors = Descriptors::of(table_owners, ahead)?;
    point("capture.descriptors")?;
    objects.userfaultfds = Userfaultfds::find(descriptors.with_link(userfaultfd::LINK))?;
    let mut job = Job { tracking, shared, unshared, objects, pids, requests_ended: false };
    let (mut processes, mut holders, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    // The root comes last: it keeps the journal of what is changed for a moment while descriptors are looked at.
    for stopped in stopped.into_iter().rev() {
        let pid = stopped.process.pid;
        let (state, process) = stopped.capture(&mut job, before(pid), |job, process, journal| {
            if pid == root_pid {
                tables = capture_files(process, &holders, &mut descriptors, job, journal)?;
            }
            Ok(())
        })?;
        processes.push(state);
        holders.push(process);
    }
    processes.reverse();
    let mapped = || processes.iter().flat_map(ProcessState::mappings);
    files::settle_rings(&mut job.objects, &tables, mapped())?;
    files::settle_packet_rings(&job.objects.open_files, mapped())?;
    // One may ask to be told of a fork.
    let clones = if job.objects.userfaultfds.is_empty() { clones } else { Permit::default() };
    process_state::copy_pages(&mut processes, holders.iter().rev(), &mut spares, clones)?;
    let semaphores = capture_semaphores(&job.pids, &waits.semaphores)?;
    let message_queues = capture_message_queues(&job.pids, &waits.queues)?;
    let directories = unshared::capture_directories(&job.unshared, &mut job.objects)?;
    let dead = tree.dead()?;
    let passed = inventory::set_time(&mut inventory);
    processes.iter_mut().for_each(|process| process.pass(passed));
    let Job { unshared, objects, .. } = job;
    Ok(Frozen {
        inventory,
        processes,
        dead,
        tables,
        unshared,
        directories,
        semaphores,
        message_queues,
        objects,
        _read_before: (descriptors, read_before),
    })
}

/// The descriptors of all processes: of the root, and of the others, which come in reverse.
fn capture_files(
    root: &Process,
    others: &[Process],
    descriptors: &mut Descriptors,
    job: &mut Job<'_>,
    journal: &Journal<'_>,
) -> CaptureResult<Vec<FdTableV1>> {
    let all = std::iter::once(root).chain(others.iter().rev());
    let threads = unshared::table_holders(&job.unshared)?;
    let holders: Vec<&Process> =
        all.filter(|process| job.shared.of(process.pid).files == process.pid).chain(&threads).collect();
    if job.requests_ended {
        descriptors.read_again();
    }
    let tables = files::capture_files(&holders, descriptors, &job.pids, &mut job.objects, journal)?;
    point("capture.files")?;
    Ok(tables)
}

impl Frozen {
    fn pages_copied(&self) -> u64 {
        let private: u64 = self.processes.iter().map(ProcessState::pages_copied).sum();
        private + pages::objects_pages(&self.objects)
    }

    fn clones(&self) -> Vec<i32> {
        self.processes.iter().filter_map(ProcessState::clone_pid).collect()
    }

    fn pids(&self) -> Vec<i32> {
        self.processes.iter().map(|process| process.task().pid).collect()
    }

    /// The pages that each address space has written since the last checkpoint, before the freeze or after, with a process that has it; they are counted in `stats`.
    fn written(&self, stats: &mut MemoryStats) -> Vec<(i32, Vec<Range<u64>>)> {
        let mut all = Vec::new();
        for (pid, dirty) in self.processes.iter().filter_map(ProcessState::pages_dirty) {
            let mut written = stats.precopied.remove(&pid).unwrap_or_default();
            written.extend_from_slice(dirty);
            let written = merged(written);
            stats.dirty += written.iter().map(pages::count).sum::<u64>();
            all.push((pid, written));
        }
        all
    }

    fn store(
        self,
        known_files: &named_file::Earlier,
        writer: &mut CheckpointWriter,
        stats: &mut MemoryStats,
    ) -> CaptureResult<()> {
        writer.record(&self.inventory)?;
        let mut named_files = NamedFiles::default();
        let nameless = self.objects.nameless.values().flat_map(|file| &file.files);
        let further = &self.objects.further;
        let elsewhere = self.objects.further_files.iter().filter(|(_, at)| further.is_mounts(*at));
        let nameless: HashSet<OpenFileId> =
            nameless.chain(elsewhere.map(|(file, _)| file)).copied().collect();
        let named = self.objects.open_files.iter().filter(|file| !nameless.contains(&file.id));
        named_files.add_open_files(named);
        let memories = self.processes.iter().filter_map(ProcessState::mm);
        memories.for_each(|mm| named_files.add_memory(mm, further));
        named_files.store(known_files, writer)?;
        for process in self.processes {
            process.store(writer, stats)?;
        }
        self.dead.iter().try_for_each(|dead| writer.record(dead))?;
        self.tables.iter().try_for_each(|table| writer.record(table))?;
        self.unshared.iter().try_for_each(|thread| writer.record(thread))?;
        self.directories.iter().try_for_each(|fs| writer.record(fs))?;
        self.semaphores.iter().try_for_each(|set| writer.record(set))?;
        self.message_queues.iter().try_for_each(|queue| writer.record(queue))?;
        for file in &self.objects.open_files {
            writer.record(file)?;
        }
        for shmem in &self.objects.shmems {
            writer.record(shmem)?;
        }
        for file in &self.objects.tmpfs_files {
            writer.record(file)?;
        }
        for ghost in &self.objects.ghosts {
            writer.record(ghost)?;
        }
        for nameless in self.objects.nameless.values() {
            writer.record(nameless)?;
        }
        for filter in self.objects.filters.records() {
            writer.record(filter)?;
        }
        pages::store_objects(&self.objects, writer, stats)
    }
}

/// A place where a test may make the capture fail, and the log tells the time.
pub(crate) fn point(name: &'static str) -> CaptureResult<()> {
    tracing::trace!(name);
    fault::point(name).map_err(|error| SysError::new("fault point", name, error).into())
}
