//! Threads of a process that may not choose ids, being in a user namespace to which not all of its PID namespaces belong: each gets the ids that come next,
//! and those are set before. Who else makes a process at that moment may take one: then the thread ends, and another is made.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::inner_pids::InnerPids;
use ckpt_sys::inject::{InjectError, Injector};
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::proc::{status::Status, threads};
use ckpt_sys::ptrace::{self, Stop};
use ckpt_sys::spawn::{self, CLONE_ARGS_SIZE, CloneArgs};
use ckpt_sys::{SysError, SysResult};
use std::os::fd::AsFd;

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
const ATTEMPTS: u32 = 1000;

/// Makes thread `tid`, with the CLONE_* `flags`; it comes up traced and stopped.
pub(crate) fn spawn_thread(
    builder: &mut Builder<'_>,
    pids: &InnerPids,
    tid: i32,
    flags: u64,
) -> RestoreResult<()> {
    let before = std::fs::read_to_string(LAST_PID).map_err(|error| SysError::new("read", LAST_PID, error))?;
    let outcome = try_often(builder, pids, tid, flags);
    // Others get the ids that they would have got.
    if let Err(error) = std::fs::write(LAST_PID, before) {
        tracing::warn!(%error, "the next process gets a lower pid than it would have");
    }
    outcome
}

fn try_often(builder: &mut Builder<'_>, pids: &InnerPids, tid: i32, flags: u64) -> RestoreResult<()> {
    let pid = builder.remote.pid();
    let wanted = pids.numbers(tid);
    for _ in 0..ATTEMPTS {
        let before = threads::list(pid)?;
        choose(pids, tid)?;
        let at = builder.place(&CloneArgs { flags, ..CloneArgs::default() }.to_bytes())?.get();
        builder.call("clone3", &format!("thread {tid}"), libc::SYS_clone3, &[at, CLONE_ARGS_SIZE])?;
        let made = threads::list(pid)?.into_iter().find(|tid| !before.contains(tid));
        let made = made.ok_or_else(|| RestoreError::Inconsistent { what: "a lost thread".into() })?;
        match ptrace::wait(made)? {
            Stop::Event => {}
            stop => return Err(InjectError::Unexpected { tid: made, stop }.into()),
        }
        let mut ids = Status::of(pid, made)?.ids("NSpid");
        ids.reverse();
        if ids == wanted {
            return Ok(());
        }
        let mut remote = Injector::on_scratch(pid, made, builder.remote.memory(), builder.remote.scratch())?;
        remote.dies_with_us();
        match remote.syscall(libc::SYS_exit, &[0]) {
            Err(InjectError::Gone { .. }) => {}
            outcome => outcome.map(drop)?,
        }
    }
    Err(RestoreError::Machine {
        reason: format!("thread {tid} of a process in a user namespace does not get its id: others take it"),
        remedy: "Restore again when fewer processes are started on this machine".into(),
    })
}

/// Has the next process get the ids of `tid`.
fn choose(pids: &InnerPids, tid: i32) -> RestoreResult<()> {
    for (at, number) in pids.levels(tid) {
        let place = namespace::open_of(pids.first(at)?, Namespace::Pid)?;
        let there = || namespace::join(place.as_fd(), &[Namespace::Pid]);
        match namespace::fork_through(None, there, |_| Ok(()))? {
            None => spawn::exit_now(i32::from(set_next(number).is_err())),
            Some(child) => {
                namespace::wait_for(child)?;
            }
        }
    }
    Ok(set_next(tid)?)
}

fn set_next(number: i32) -> SysResult<()> {
    let text = (number - 1).to_string();
    std::fs::write(LAST_PID, text).map_err(|error| SysError::new("write", LAST_PID, error))
}
