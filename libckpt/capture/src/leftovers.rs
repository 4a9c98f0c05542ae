//! What a capture leaves in a process when its own process is killed in the middle, and how it goes.
use crate::capture::if_alive;
use crate::cgroups::{FrozenGroups, Groups, Outside};
use crate::error::{CaptureError, CaptureResult};
use crate::files::{self, Journal};
use crate::freeze::{self, Known};
use crate::orphans::Orphans;
use crate::process::Process;
use crate::{preflight, tree};
use ckpt_sys::inject::{Gadgets, Hints, Injector, Scratch};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::pidfd;

/// Removes what a capture left in the job of process `root` whose own process was killed in the middle. The target has recovered by itself; all
/// that stays in it is a few pages, perhaps a userfaultfd, and an option of a socket.
///
/// # Errors
/// As [`crate::capture`]'s; the target runs on.
pub fn clean(root: i32, orphans: &Orphans) -> Result<(), CaptureError> {
    let pids = tree::members(root, orphans);
    // What is frozen cannot be asked; the next checkpoint removes it.
    if !FrozenGroups::of(&Groups::read(&pids, &Outside::default())?)?.is_empty() {
        return Ok(());
    }
    for &pid in &pids {
        if_alive(root, pid, clean_process(pid, &pids))?;
    }
    Ok(())
}

fn clean_process(pid: i32, pids: &[i32]) -> CaptureResult<()> {
    preflight::check_process(pid)?;
    let gadgets = Gadgets::find(pid, &ProcessMemory::open(pid)?)?;
    let (freeze, leftovers) = freeze::begin_recovered(pid, &Known::default())?;
    let process = Process { pid, pidfd: pidfd::open(pid)?, memory: ProcessMemory::open(pid)? };
    let descriptors = ckpt_dirty::leftovers(pid)?;
    if !leftovers.is_empty() || !descriptors.is_empty() {
        let first = freeze.tids()[0];
        let mut injector = Injector::with_hints(pid, first, &process.memory, Hints { gadgets, call: None })?;
        remove(&process, &mut injector, &leftovers, pids)?;
        ckpt_dirty::close_leftovers(&mut injector, &descriptors)?;
        injector.finish()?;
    }
    freeze.thaw();
    Ok(())
}

/// Removes scratch areas that were left in a frozen process, once what their journals tell of the sockets of processes `pids` is undone.
pub(crate) fn remove(
    process: &Process,
    injector: &mut Injector<'_>,
    leftovers: &[Scratch],
    pids: &[i32],
) -> CaptureResult<()> {
    let own = Journal::new(injector.scratch(), &process.memory);
    for &leftover in leftovers {
        files::undo(pids, &Journal::new(leftover, &process.memory), &own)?;
        let outcome = injector.unmap_leftover(leftover)?;
        let failed = |errno| CaptureError::Remote { pid: process.pid, call: "munmap", errno };
        outcome.map_err(failed)?;
    }
    Ok(())
}
