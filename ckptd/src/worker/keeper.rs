//! The keeper of a job: the parent of its root process, and of all its processes that are left without one. The kernel tells nobody whose child an
//! orphan was; where it goes tells what job it is of.
use crate::failure::Failure;
use ckpt_sys::reaper;
use nix::sys::prctl;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has orphans among the descendants of this process become its children, from now on and across execve(2).
///
/// # Errors
/// As prctl(2)'s PR_SET_CHILD_SUBREAPER.
pub(crate) fn adopt_orphans() -> Result<(), Failure> {
    prctl::set_child_subreaper(true)
        .map_err(|errno| Failure::new(format!("cannot become a child subreaper: {errno}")))
}

/// Executes this program anew, as what does nothing but to wait for its children: no more memory is needed for that than for a small program.
/// Returns only if that fails.
pub(super) fn become_keeper() -> Failure {
    let error = Command::new("/proc/self/exe").arg0("ckpt-keeper").arg("__keep").exec();
    tracing::error!("the job runs on without a keeper: {error}");
    Failure::new(error)
}

/// `ckpt __keep`: waits for all children, those that it adopts meanwhile among them, and ends when there are none.
pub(crate) fn keep() {
    let _ = prctl::set_name(c"ckpt-keeper");
    // Nothing of the daemon is to be held by it. It has one thread, and no descriptors of its own.
    // SAFETY: no pointers; nothing in this process owns a descriptor.
    unsafe { libc::close_range(0, u32::MAX, 0) };
    let _ = std::env::set_current_dir("/");
    while reaper::wait_for_any(0).is_ok() {}
}
