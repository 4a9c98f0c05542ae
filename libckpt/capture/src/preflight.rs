//! What can be told of a process before it is stopped.
use crate::capture::if_alive;
use crate::error::{CaptureError, CaptureResult};
use crate::namespaces::{Further, Namespaces, check_threads};
use crate::orphans::Orphans;
use crate::{seccomp, tree, vfork};
use ckpt_sys::namespace;
use ckpt_sys::proc::{self, stand_in, stat::Stat, status::Status, threads};
use nix::errno::Errno;

const CAP_SYS_PTRACE: u64 = 1 << 19;

/// Refuses a pid that is not a process that we may save.
pub(crate) fn check_process(pid: i32) -> CaptureResult<()> {
    let gone = |error: ckpt_sys::SysError| {
        if error.is_gone() { CaptureError::NoProcess { pid } } else { error.into() }
    };
    let stat = Stat::of(pid, pid).map_err(gone)?;
    let status = Status::of(pid, pid).map_err(gone)?;
    if stat.is_kernel_thread() {
        return Err(CaptureError::KernelThread { pid });
    }
    let process = status.number("Tgid")?;
    // It is being reaped at this moment.
    if process == 0 {
        return Err(CaptureError::NoProcess { pid });
    }
    if process != u64::from(pid.unsigned_abs()) {
        let remedy = format!("Name the process: pid {process}");
        return Err(CaptureError::unsupported(
            pid,
            format!("pid {pid}"),
            "it is a thread, not a process",
            remedy,
        ));
    }
    if matches!(stat.state, 'Z' | 'X') && !stand_in::look(pid) {
        return Err(CaptureError::Exited { pid });
    }
    if pid == std::process::id().cast_signed() {
        let (reason, remedy) = ("it is the process that takes the checkpoint", "Name another process");
        return Err(CaptureError::unsupported(pid, "ckpt itself", reason, remedy));
    }
    let owner = u32::try_from(status.number("Uid")?).unwrap_or(u32::MAX);
    let own = nix::unistd::geteuid().as_raw();
    if own != 0 && own != owner && !may_trace_all()? {
        return Err(CaptureError::NotPermitted { pid, owner });
    }
    check_dumpable(pid)?;
    check_tracer(pid)
}

/// Refuses a process that only privileged ones may look into.
fn check_dumpable(pid: i32) -> CaptureResult<()> {
    match namespace::Namespace::User.of(pid) {
        Err(error) if error.errno() == Some(Errno::EACCES) => Err(CaptureError::unsupported(
            pid,
            "its memory",
            "it may not be looked into: the program has privileges of its own, or has forbidden it (PR_SET_DUMPABLE)",
            "Run ckpt as root or with CAP_SYS_PTRACE",
        )),
        _ => Ok(()),
    }
}

/// Refuses a process one of whose threads is traced by another than this one, which may be about to stop it.
fn check_tracer(pid: i32) -> CaptureResult<()> {
    let own = proc::own_tid()?;
    for tid in threads::list(pid)? {
        let Ok(status) = Status::of(pid, tid) else { continue };
        let tracer = i32::try_from(status.number("TracerPid")?).unwrap_or(0);
        if tracer != 0 && tracer != own {
            let tracer_name = proc::read_text(tracer, "comm").map(|name| format!(" ({})", name.trim()));
            let tracer_name = tracer_name.unwrap_or_default();
            return Err(CaptureError::Traced { pid, tracer, tracer_name });
        }
    }
    Ok(())
}

/// Whether the user ids of processes do not matter to this one.
fn may_trace_all() -> CaptureResult<bool> {
    let own = std::process::id().cast_signed();
    Ok(Status::of(own, own)?.mask("CapEff")? & CAP_SYS_PTRACE != 0)
}

/// Refuses a job with namespaces of its own that this process is not in, and such as cannot be saved.
pub(crate) fn check_inside(root: i32, namespaces: &Namespaces) -> CaptureResult<()> {
    if !namespaces.is_empty() {
        return namespaces.check();
    }
    let foreign = namespace::foreign(root)?;
    if foreign.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = foreign.iter().map(|namespace| namespace.name()).collect();
    Err(CaptureError::unsupported(
        root,
        format!("namespaces of its own ({})", names.join(", ")),
        "ckpt is not in them",
        "Run ckpt within the same namespaces (nsenter)",
    ))
}

/// Everything about the processes of a job as such that this version cannot save.
pub(crate) fn unsupported_in_job(root: i32, orphans: &Orphans) -> CaptureResult<Vec<CaptureError>> {
    let mut found = Vec::new();
    let members = tree::members(root, orphans);
    for &pid in &members {
        let looked = if pid == root { Ok(()) } else { check_process(pid) };
        found.extend(if_alive(root, pid, looked.and_then(|()| unsupported(pid)))?.unwrap_or_default());
    }
    if found.is_empty() {
        found.extend(Further::find(&members)?.check());
    }
    Ok(found)
}

/// Everything about the process as a whole that this version cannot save.
fn unsupported(pid: i32) -> CaptureResult<Vec<CaptureError>> {
    let mut found = Vec::new();
    let tids = threads::list(pid)?;
    found.extend(check_threads(pid, &tids).err());
    for &tid in &tids {
        let Ok(status) = Status::of(pid, tid) else { continue };
        // Threads come and go while the process runs.
        let Ok(stat) = Stat::of(pid, tid) else { continue };
        if !stat.is_exiting() {
            found.extend(seccomp::check(pid, tid, &status).err());
        }
        if stat.state == 'D' {
            found.extend(vfork::wait_until_over(pid, tid).err());
        }
        if matches!(stat.state, 'Z' | 'X')
            && tids.iter().all(|tid| Stat::of(pid, *tid).map_or(true, |stat| stat.is_exiting()))
        {
            return Err(CaptureError::Exited { pid });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_sys::ptrace;
    use std::process::{Child, Command};

    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Self {
            Self(Command::new("sleep").arg("1000").spawn().unwrap())
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    // A thread that is about to end cannot be seized; the process is looked at again then, with its other threads seized.
    #[test]
    fn a_process_that_this_thread_has_seized_is_not_refused() {
        let sleeper = Sleeper::new();
        ptrace::seize(sleeper.pid(), 0).unwrap();
        check_process(sleeper.pid()).unwrap();
    }

    #[test]
    fn a_process_that_another_traces_is_refused() {
        let sleeper = Sleeper::new();
        let pid = sleeper.pid();
        let (seized, told) = std::sync::mpsc::channel();
        let (over, ends) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                ptrace::seize(pid, 0).unwrap();
                seized.send(ckpt_sys::proc::own_tid().unwrap()).unwrap();
                let _ = ends.recv();
            });
            let other = told.recv().unwrap();
            let refused = check_process(pid);
            assert!(
                matches!(refused, Err(CaptureError::Traced { tracer, .. }) if tracer == other),
                "{refused:?}"
            );
            drop(over);
        });
    }
}
