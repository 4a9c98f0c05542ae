//! Threads that have left the descriptor table or the directories of their process (unshare(2)).
use crate::error::{CaptureError, CaptureResult};
use crate::fs;
use crate::objects::Objects;
use crate::process::Process;
use crate::sharing::Owners;
use crate::tree::Member;
use ckpt_image::record::{FdTableId, FsId, FsV1, UnsharedV1};
use ckpt_sys::kcmp::{self, Resource};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::pidfd;
use std::cmp::Ordering;

/// Finds them in a job whose processes are stopped.
pub(crate) fn capture_unshared(members: &[Member]) -> CaptureResult<Vec<UnsharedV1>> {
    let mut found: Vec<UnsharedV1> = Vec::new();
    for member in members {
        let pid = member.pid();
        let (mut files, mut fs) = (Owners::new(Resource::Files), Owners::new(Resource::Fs));
        for tid in member.freeze.tids() {
            let own = |owner: i32| (owner != pid).then_some(owner.unsigned_abs());
            let (table, directories) = (own(files.of(tid)?), own(fs.of(tid)?));
            if (table, directories) == (None, None) {
                continue;
            }
            let thread = UnsharedV1 { pid, tid, fd_table: table.map(FdTableId), fs: directories.map(FsId) };
            let first = UnsharedV1 { pid, tid: pid, fd_table: None, fs: None };
            let mut makers = std::iter::once(&first).chain(found.iter().filter(|other| other.pid == pid));
            if !makers.any(|maker| can_make(maker, &thread)) {
                return Err(refused(
                    &thread,
                    "it shares its descriptor table and its directories with different threads",
                ));
            }
            check_processes(&thread, members)?;
            found.push(thread);
        }
    }
    Ok(found)
}

/// Whether a thread can hand on what another shares, where that is not the other's own.
fn can_make(maker: &UnsharedV1, thread: &UnsharedV1) -> bool {
    (owns_table(thread) || thread.fd_table == maker.fd_table) && (owns_fs(thread) || thread.fs == maker.fs)
}

/// Refuses a thread that shares with another process what it does not share with its own.
fn check_processes(thread: &UnsharedV1, members: &[Member]) -> CaptureResult<()> {
    for member in members.iter().filter(|member| member.pid() != thread.pid) {
        for resource in [Resource::Files, Resource::Fs] {
            if kcmp::compare(resource, thread.tid, member.pid())? == Ordering::Equal {
                let what = format!("it shares that with process {}", member.pid());
                return Err(refused(thread, &what));
            }
        }
    }
    Ok(())
}

fn refused(thread: &UnsharedV1, reason: &str) -> CaptureError {
    CaptureError::unsupported(
        thread.pid,
        format!("thread {} with a descriptor table or directories of its own (unshare)", thread.tid),
        reason,
        "Save when that thread has ended",
    )
}

fn owns_table(thread: &UnsharedV1) -> bool {
    thread.fd_table == Some(FdTableId(thread.tid.unsigned_abs()))
}

fn owns_fs(thread: &UnsharedV1) -> bool {
    thread.fs == Some(FsId(thread.tid.unsigned_abs()))
}

/// The threads that are the first to have their table of descriptors, each as if it were a process.
pub(crate) fn table_holders(threads: &[UnsharedV1]) -> CaptureResult<Vec<Process>> {
    let holder = |thread: &UnsharedV1| {
        let tid = thread.tid;
        Ok(Process { pid: tid, pidfd: pidfd::open_task(tid)?, memory: ProcessMemory::open(tid)? })
    };
    threads.iter().filter(|thread| owns_table(thread)).map(holder).collect()
}

/// Saves the directories of those that are the first to have theirs.
pub(crate) fn capture_directories(threads: &[UnsharedV1], objects: &mut Objects) -> CaptureResult<Vec<FsV1>> {
    threads
        .iter()
        .filter(|thread| owns_fs(thread))
        .map(|thread| fs::capture_fs(thread.tid, objects))
        .collect()
}
