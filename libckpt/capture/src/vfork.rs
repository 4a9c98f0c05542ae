//! Threads that wait within vfork(2): nothing but a fatal signal brings them out before their child has executed a program or ended.
use crate::error::{CaptureError, CaptureResult};
use ckpt_sys::kcmp::{self, Resource};
use ckpt_sys::proc::{self, stat::Stat};
use std::cmp::Ordering;
use std::time::{Duration, Instant};

/// How long one may wait while the job runs, before its save is refused.
const LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// The child that thread `tid` of process `pid` waits for in vfork(2), if it does.
pub(crate) fn child(pid: i32, tid: i32) -> Option<i32> {
    if Stat::of(pid, tid).ok()?.state != 'D' {
        return None;
    }
    let call = proc::read_text(pid, &format!("task/{tid}/syscall")).ok()?;
    let number: i64 = call.split_ascii_whitespace().next()?.parse().ok()?;
    if ![libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&number) {
        return None;
    }
    let children = proc::read_text(pid, &format!("task/{tid}/children")).ok()?;
    let children = children.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok());
    let shares = |child: &i32| kcmp::compare(Resource::Memory, pid, *child).is_ok_and(Ordering::is_eq);
    children.rev().find(shares)
}

/// Waits until no such wait is left in thread `tid` of process `pid`, which runs.
///
/// # Errors
/// It lasts.
pub(crate) fn wait_until_over(pid: i32, tid: i32) -> CaptureResult<()> {
    let begin = Instant::now();
    while let Some(child) = child(pid, tid) {
        if begin.elapsed() > LIMIT {
            return Err(refused(pid, tid, child));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The error that names both.
pub(crate) fn refused(pid: i32, tid: i32, child: i32) -> CaptureError {
    CaptureError::unsupported(
        pid,
        format!("thread {tid}"),
        format!(
            "it waits for its child {child} to execute a program or to end (vfork), and cannot be stopped before"
        ),
        format!("Save when process {child} has executed a program, or end that process"),
    )
}
