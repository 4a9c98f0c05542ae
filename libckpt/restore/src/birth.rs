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
    /// What comes late of their memory.
    pub(crate) late: Option<&'a Plan>,
    /// Their control groups.
    pub(crate) seats: &'a mut Seats<'c>,
}

impl<'m> Births<'_, '_, 'm> {
    /// Makes all processes.
    pub(crate) fn carry_out(mut self, steps: &[Step]) -> RestoreResult<Family<'m>> {
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
                    let leader = Leader::of(made);
                    match ptrace::wait(made)? {
                        Stop::Event => {}
                        stop => return Err(InjectError::Unexpected { tid: made, stop }.into()),
                    }
                    let memory = open_memory(made, slot)?;
                    let scratch = member(&mut family, parent)?.builder.remote.scratch();
                    let mut remote = Injector::on_scratch(made, made, memory, scratch)?;
                    remote.dies_with_us();
                    let mut builder = Builder::new(remote);
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
                    let builder = &mut member(&mut family, pid)?.builder;
                    let group = u64::from(pgid.unsigned_abs());
                    builder.call("setpgid", &format!("group {pgid}"), libc::SYS_setpgid, &[0, group])?;
                }
                Step::Subreaper { pid, on } => subreaper(&mut family, real(pid), on)?,
                Step::End { pid, parent } => {
                    let (pid, parent) = (real(pid), real(parent));
                    end(&mut family, pid, 0)?;
                    if let Some(parent) = family.get_mut(&parent) {
                        let args =
                            [u64::from(pid.unsigned_abs()), 0, u64::from(libc::__WALL.unsigned_abs()), 0];
                        parent.builder.call("wait4", &format!("pid {pid}"), libc::SYS_wait4, &args)?;
                    }
                }
            }
        }
        Ok(family)
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
        let builder = &mut member(family, parent)?.builder;
        if pid > 0 {
            let mut patience = Patience::new();
            while !clone(builder, pid, flags, exit_signal)? {
                patience.wait_for(pid)?;
            }
            return Ok(pid);
        }
        let needed: Vec<i32> = self.records.tasks.iter().flat_map(|task| &task.tids).copied().collect();
        let dead: Vec<i32> = self.records.dead.iter().map(|dead| dead.pid).collect();
        for pid in HELPER_PIDS.filter(|pid| !needed.contains(pid) && !dead.contains(pid)) {
            if clone(builder, pid, flags, exit_signal)? {
                return Ok(pid);
            }
        }
        Err(RestoreError::Inconsistent { what: "no pid is free for a helper".into() })
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
                mm::restore_mm(builder, self.contents, self.image, mm, parent, self.late)?;
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

/// Whether the process could be made: not while its pid is taken.
fn clone(builder: &mut Builder<'_>, pid: i32, flags: i32, exit_signal: i32) -> RestoreResult<bool> {
    let set_tid = builder.place(&pid.to_ne_bytes())?.get();
    let args = CloneArgs {
        flags: u64::from(flags.unsigned_abs()),
        exit_signal: u64::from(exit_signal.unsigned_abs()),
        set_tid,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    let at = builder.place(&args.to_bytes())?.get();
    match builder.remote.syscall(libc::SYS_clone3, &[at, CLONE_ARGS_SIZE])? {
        Ok(_) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => {
            let parent = builder.remote.pid();
            Err(RestoreError::Remote {
                pid: parent,
                call: "clone3",
                object: format!("child process {pid}"),
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
