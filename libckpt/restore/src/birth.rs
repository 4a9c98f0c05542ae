//! Processes are born as the plan of [`crate::family`] has it, all of them held by ptrace. Each gets its memory before its own children are made:
//! they are copies of it, and what is the same in them stays shared.
use crate::builder::Builder;
use crate::cgroups::Seats;
use crate::content::Contents;
use crate::error::{RestoreError, RestoreResult};
use crate::family::Step;
use crate::lazy::Plan;
use crate::leader::{self, Leader, Patience};
use crate::namespaces::{Further, Whereabouts};
use crate::records::Records;
use crate::restore::RootBirth;
use crate::thread::place_clone_args;
use crate::{files, mm};
use ckpt_image::Image;
use ckpt_image::record::MmId;
use ckpt_sys::inject::{InjectError, Injector};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::ptrace::{self, Stop};
use ckpt_sys::spawn::{CLONE_ARGS_SIZE, CloneArgs};
use nix::errno::Errno;
use std::cell::OnceCell;
use std::collections::BTreeMap;

const PR_SET_CHILD_SUBREAPER: u64 = 36;
/// Pids that are tried for a helper whose pid does not matter.
const HELPER_PIDS: std::ops::Range<i32> = 300..30_000;

/// A process under construction.
#[derive(Debug)]
pub(crate) struct Member<'m> {
    /// Kills it if all goes wrong.
    pub(crate) leader: Leader,
    /// Runs calls in its leader.
    pub(crate) builder: Builder<'m>,
}

/// The processes under construction, by pid.
pub(crate) type Family<'m> = BTreeMap<i32, Member<'m>>;

/// The memory of the processes that a plan makes: room for as many as it has steps.
pub(crate) fn slots(steps: &[Step]) -> Vec<OnceCell<ProcessMemory>> {
    steps.iter().map(|_| OnceCell::new()).collect()
}

/// Carries a plan out.
#[derive(Debug)]
pub(crate) struct Births<'a, 'c, 'm> {
    /// What there is to make.
    pub(crate) records: &'a Records,
    /// Where the memory's contents are.
    pub(crate) image: &'a Image,
    /// What mappings share.
    pub(crate) contents: &'a mut Contents,
    /// The sessions' terminals.
    pub(crate) masters: &'a files::Masters,
    /// One for each step.
    pub(crate) slots: &'m [OnceCell<ProcessMemory>],
    /// Whose memory the processes made so far have, by pid; none: ours.
    pub(crate) memories: BTreeMap<i32, MmId>,
    /// Who makes the root.
    pub(crate) root: RootBirth,
    /// Namespaces that the root is not in.
    pub(crate) further: &'a Further,
    /// Who is in which of them.
    pub(crate) whereabouts: Whereabouts,
    /// Who is in which PID namespace, as [`crate::inner_pids`] counts them.
    pub(crate) homes: BTreeMap<i32, Option<usize>>,
    /// What comes late of their memory.
    pub(crate) late: Option<&'a Plan>,
    /// Their control groups.
    pub(crate) seats: &'a mut Seats<'c>,
}

impl<'m> Births<'_, '_, 'm> {
    /// Makes all processes.
    pub(crate) fn carry_out(mut self, steps: &[Step]) -> RestoreResult<(Family<'m>, Whereabouts)> {
        let mut family = Family::new();
        // Pids of helpers that have none in the plan.
        let mut helpers = BTreeMap::new();
        for (step, slot) in steps.iter().zip(self.slots) {
            let real = |pid: i32| helpers.get(&pid).copied().unwrap_or(pid);
            match *step {
                Step::Birth { pid, parent: 0 } => {
                    let leader = Leader::spawn(pid, self.root)?;
                    let memory = open_memory(pid, slot)?;
                    let builder = Builder::new(leader::take_hold(pid, memory, self.records.mms())?);
                    self.seats.seat_process(pid, 0);
                    self.homes.insert(pid, None);
                    self.settle(pid, &mut family, Member { leader, builder })?;
                }
                Step::Birth { pid, parent } => {
                    let parent = real(parent);
                    let made = self.clone_from(&mut family, parent, pid)?;
                    helpers.insert(pid, made);
                    self.seats.seat_process(made, parent);
                    if let Some(memory) = self.memories.get(&parent).copied() {
                        self.memories.insert(made, memory);
                    }
                    let mut leader = Leader::of(made);
                    if self.homes.get(&made) != self.homes.get(&parent) {
                        leader.is_first();
                    }
                    match ptrace::wait(made)? {
                        Stop::Event => {}
                        stop => return Err(InjectError::Unexpected { tid: made, stop }.into()),
                    }
                    let memory = open_memory(made, slot)?;
                    let scratch = member(&mut family, parent)?.builder.remote.scratch();
                    let mut remote = Injector::on_scratch(made, made, memory, scratch)?;
                    remote.dies_with_us();
                    let mut builder = Builder::new(remote);
                    builder.apart = self.homes.get(&made).is_some_and(Option::is_some);
                    let stays = self.records.task(made).is_some();
                    self.further.settle(&mut builder, &mut self.whereabouts, (made, parent), stays)?;
                    self.settle(made, &mut family, Member { leader, builder })?;
                }
                Step::Session { pid } => {
                    let builder = &mut member(&mut family, pid)?.builder;
                    builder.call("setsid", &format!("pid {pid}"), libc::SYS_setsid, &[])?;
                    self.masters.control(builder)?;
                }
                Step::Group { pid, pgid } => {
                    self.set_group(&mut family, pid, pgid)?;
                }
                Step::Subreaper { pid, on } => subreaper(&mut family, real(pid), on)?,
                Step::End { pid, parent } => {
                    let (pid, parent) = (real(pid), real(parent));
                    end(&mut family, pid, 0)?;
                    if let Some(parent) = family.get_mut(&parent) {
                        let there = parent.builder.id_there(pid)?.unwrap_or(0);
                        let args =
                            [u64::from(there.unsigned_abs()), 0, u64::from(libc::__WALL.unsigned_abs()), 0];
                        parent.builder.call("wait4", &format!("pid {pid}"), libc::SYS_wait4, &args)?;
                    }
                }
            }
        }
        Ok((family, self.whereabouts))
    }

    /// Has process `parent` make process `pid`; its pid, another one if `pid` is negative.
    fn clone_from(&mut self, family: &mut Family<'m>, parent: i32, pid: i32) -> RestoreResult<i32> {
        let task = self.records.task(pid);
        let dead = self.records.dead.iter().find(|dead| dead.pid == pid);
        let exit_signal =
            task.map(|task| task.exit_signal).or(dead.map(|dead| dead.exit_signal)).unwrap_or(0);
        let mut flags = libc::CLONE_PTRACE;
        if let Some(task) = task.filter(|task| task.ppid == parent) {
            flags |= self.records.shared_with_parent(task)?;
        }
        let pids = &self.records.inner_pids;
        let parents = self.homes.get(&parent).copied().flatten();
        if pid > 0 {
            let home = pids.home(pid);
            self.homes.insert(pid, home);
            let numbers = pids.numbers(pid);
            let way = self.further.way_to(pids, (pid, home), (parent, parents))?;
            if way.is_new() {
                flags |= libc::CLONE_NEWPID;
            }
            let builder = &mut member(family, parent)?.builder;
            way.go(builder)?;
            let mut patience = Patience::new();
            while !clone(builder, &numbers, flags, exit_signal)? {
                patience.wait_for(pid)?;
            }
            way.come_back(builder)?;
            return Ok(pid);
        }
        let needed: Vec<i32> = self.records.tasks.iter().flat_map(|task| &task.tids).copied().collect();
        let dead: Vec<i32> = self.records.dead.iter().map(|dead| dead.pid).collect();
        let builder = &mut member(family, parent)?.builder;
        let is_free = |pid: &i32| !needed.contains(pid) && !dead.contains(pid);
        for pid in HELPER_PIDS.filter(is_free) {
            if clone(builder, &pids.same_in_all(parents, pid), flags, exit_signal)? {
                self.homes.insert(pid, parents);
                return Ok(pid);
            }
        }
        Err(RestoreError::Inconsistent { what: "no pid is free for a helper".into() })
    }

    /// Has a process join a group, or lead a new one of its own pid. A group that is not seen where it is is chosen for it by its parent.
    fn set_group(&self, family: &mut Family<'m>, pid: i32, pgid: i32) -> RestoreResult<()> {
        let own = &mut member(family, pid)?.builder;
        let (builder, process, group) = match own.id_there(pgid)?.filter(|group| *group != 0) {
            Some(group) => (own, 0, group),
            None => {
                let parent = self.records.task(pid).map_or(0, |task| task.ppid);
                let builder = &mut member(family, parent)?.builder;
                let there = |id: i32| Ok::<_, RestoreError>(builder.id_there(id)?.unwrap_or(0));
                let (process, group) = (there(pid)?, there(pgid)?);
                (builder, process, group)
            }
        };
        let args = [u64::from(process.unsigned_abs()), u64::from(group.unsigned_abs())];
        builder.call("setpgid", &format!("group {pgid}"), libc::SYS_setpgid, &args).map(drop)
    }

    /// Gives a process that was just made what its children may inherit.
    fn settle(&mut self, pid: i32, family: &mut Family<'m>, mut member: Member<'m>) -> RestoreResult<()> {
        if let Some(task) = self.records.task(pid) {
            let builder = &mut member.builder;
            if let Some(table) = self.records.own_table(task)? {
                files::prepare(builder, table)?;
            }
            let (mm, own) = self.records.mm(task)?;
            if own {
                let inherited = self.memories.insert(pid, mm.id);
                let parent = self.records.mms().iter().find(|mm| Some(mm.id) == inherited);
                mm::restore_mm(
                    builder,
                    self.contents,
                    self.image,
                    mm,
                    parent,
                    (self.late, &self.records.handled_faults),
                )?;
            }
        }
        family.insert(pid, member);
        Ok(())
    }
}

fn open_memory(pid: i32, slot: &OnceCell<ProcessMemory>) -> RestoreResult<&ProcessMemory> {
    let memory = ProcessMemory::open(pid)?;
    Ok(slot.get_or_init(|| memory))
}

/// The process `pid`.
pub(crate) fn member<'f, 'm>(family: &'f mut Family<'m>, pid: i32) -> RestoreResult<&'f mut Member<'m>> {
    let missing =
        || RestoreError::Inconsistent { what: format!("process {pid} is not there when it is needed") };
    family.get_mut(&pid).ok_or_else(missing)
}

/// Whether a process with the ids `numbers`, the innermost first, could be made: not while one is taken.
fn clone(builder: &mut Builder<'_>, numbers: &[i32], flags: i32, exit_signal: i32) -> RestoreResult<bool> {
    let args = CloneArgs {
        flags: u64::from(flags.unsigned_abs()),
        exit_signal: u64::from(exit_signal.unsigned_abs()),
        ..CloneArgs::default()
    };
    let at = place_clone_args(builder, args, numbers)?;
    match builder.remote.syscall(libc::SYS_clone3, &[at, CLONE_ARGS_SIZE])? {
        Ok(_) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => {
            let parent = builder.remote.pid();
            Err(RestoreError::Remote {
                pid: parent,
                call: "clone3",
                object: format!("child process {}", numbers.last().copied().unwrap_or(0)),
                errno,
            })
        }
    }
}

fn subreaper(family: &mut Family<'_>, pid: i32, on: bool) -> RestoreResult<()> {
    let args = [PR_SET_CHILD_SUBREAPER, u64::from(on), 0, 0, 0];
    member(family, pid)?.builder.prctl("prctl(PR_SET_CHILD_SUBREAPER)", &args)?;
    Ok(())
}

/// Has a process exit with `status`; it is a zombie of its parent's then, unless that is this process.
pub(crate) fn end(family: &mut Family<'_>, pid: i32, status: u64) -> RestoreResult<()> {
    let Some(mut member) = family.remove(&pid) else { return Ok(()) };
    match member.builder.remote.syscall(libc::SYS_exit_group, &[status]) {
        Err(InjectError::Gone { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(RestoreError::Inconsistent { what: format!("process {pid} did not exit") }),
    }
    member.leader.forget();
    Ok(())
}
