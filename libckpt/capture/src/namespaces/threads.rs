//! Threads that are in other namespaces than their process (unshare(2), setns(2)): they would all come back in those of the process.
use crate::error::{CaptureError, CaptureResult};
use ckpt_sys::kcmp::{self, Resource};
use ckpt_sys::{SysResult, proc};
use std::cmp::Ordering;
use std::path::PathBuf;

/// Those that any thread may leave, or have its children leave.
const KINDS: [&str; 6] = ["net", "ipc", "uts", "cgroup", "pid_for_children", "time_for_children"];

/// Refuses those among the threads `tids` of process `pid`.
pub(crate) fn check_threads(pid: i32, tids: &[i32]) -> CaptureResult<()> {
    // A thread that ends has no links; one whose children are to be born in a new namespace has none for that.
    let link = |path: String| -> SysResult<Option<PathBuf>> {
        match proc::read_link(pid, &path) {
            Err(error) if error.is_gone() || error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(None),
            link => link.map(Some),
        }
    };
    let mut others = tids.iter().filter(|tid| **tid != pid).peekable();
    if others.peek().is_none() {
        return Ok(());
    }
    let wanted = |kind: &str| link(format!("ns/{kind}"));
    let own = KINDS.iter().map(|kind| wanted(kind)).collect::<SysResult<Vec<_>>>()?;
    for tid in others {
        let theirs = |kind: &str| link(format!("task/{tid}/ns/{kind}"));
        if theirs(KINDS[0])?.is_none() {
            continue;
        }
        let check = |kind: &str, own: &Option<PathBuf>| -> CaptureResult<()> {
            match (theirs(kind)?, own) {
                (theirs, Some(own)) if theirs.as_ref() != Some(own) => Err(refused(pid, *tid, kind, theirs)),
                _ => Ok(()),
            }
        };
        KINDS
            .iter()
            .zip(&own)
            .try_for_each(|(kind, own)| check(kind, own))
            .or_else(|error| still_there(pid, *tid, error))?;
        // A thread that shares its directories cannot leave a mount namespace.
        if kcmp::compare(Resource::Fs, pid, *tid).is_ok_and(Ordering::is_ne) {
            check("mnt", &wanted("mnt")?).or_else(|error| still_there(pid, *tid, error))?;
        }
    }
    Ok(())
}

fn refused(pid: i32, tid: i32, kind: &str, link: Option<PathBuf>) -> CaptureError {
    let (name, whose) = match kind.strip_suffix("_for_children") {
        Some(name) => (name, "that its children are born in"),
        None => (kind, "that it is in"),
    };
    let link = link.map_or_else(String::new, |link| format!(", {}", link.display()));
    CaptureError::unsupported(
        pid,
        format!("thread {tid}: the {name} namespace {whose}{link}"),
        "it is not that of the process: the thread alone has left it (unshare, setns)",
        "Save when that thread has ended, or is back",
    )
}

/// The error, unless the thread has ended meanwhile.
fn still_there(pid: i32, tid: i32, error: CaptureError) -> CaptureResult<()> {
    match proc::read_link(pid, &format!("task/{tid}/ns/{}", KINDS[0])) {
        Ok(_) => Err(error),
        Err(_) => Ok(()),
    }
}
