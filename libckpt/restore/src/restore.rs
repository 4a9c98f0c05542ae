//! The way of a restore: from an empty process to a running job.
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::leader::{self, Leader};
use crate::{files, fs, machine, mm, sighand, task, thread, timer};
use ckpt_dirty::Tracking;
use ckpt_image::Image;
use ckpt_image::record::{FdTableV1, FsV1, MmV1, Record, SighandV1, TaskV1, ThreadV1};
use ckpt_sys::inject::Injector;
use ckpt_sys::memory::ProcessMemory;
use std::os::fd::RawFd;

/// What to restore, and how.
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// The checkpoint.
    pub image: &'a Image,
    /// Our descriptors that the job's terminal or pipes to the outside are replaced by, for numbers 0, 1 and 2.
    pub stdio: [RawFd; 3],
    /// Track dirty pages from the first instruction on, so that the next checkpoint is incremental.
    pub track: bool,
}

/// A job that runs again.
#[derive(Debug)]
pub struct Restored {
    /// Its root task, a child of this process.
    pub root_pid: i32,
    /// Dirty-page tracking against the checkpoint, if asked for and possible.
    pub tracking: Option<Tracking>,
}

/// Brings a checkpoint back. The job's root task becomes a child of this process; its threads run when this returns.
///
/// # Errors
/// Whatever the image needs and this machine lacks; then nothing of the job runs.
pub fn restore(request: &RestoreRequest<'_>) -> Result<Restored, RestoreError> {
    let image = request.image;
    machine::check(image)?;
    let task: TaskV1 = the_only(image)?;
    let mm: MmV1 = the_only(image)?;
    let table: FdTableV1 = the_only(image)?;
    let fs: FsV1 = the_only(image)?;
    let sighand: SighandV1 = the_only(image)?;
    let threads: Vec<ThreadV1> = image.records()?;

    let mut leader = Leader::spawn(task.pid)?;
    let memory = ProcessMemory::open(task.pid)?;
    let remote = leader::take_hold(&leader, &memory, &mm, &task)?;
    let mut builder = Builder::new(remote);

    files::prepare(&mut builder, &table)?;
    mm::restore_mm(&mut builder, image, &mm)?;
    files::restore_files(&mut builder, image, &table, request.stdio)?;
    builder.finish_seals()?;
    fs::restore_fs(&mut builder, &fs)?;
    task::restore_features(&mut builder, &task)?;
    sighand::restore_sighand(&mut builder, &sighand)?;
    for thread in threads.iter().filter(|thread| thread.tid != task.pid) {
        thread::spawn_thread(&mut builder, thread.tid)?;
        leader.add_thread(thread.tid);
    }
    files::restore_owners(&mut builder, image, &table)?;
    task::restore_task(&mut builder, &task)?;
    timer::restore_posix_timers(&mut builder, &task.posix_timers)?;
    task::restore_rlimits(&mut builder, &task)?;
    let tracking = if request.track { mm::start_tracking(&mut builder, image, &mm) } else { None };
    let scratch = builder.remote.finish_keeping_scratch()?;

    // One thread at a time: the scratch area has one recovery frame. The leader comes last and takes the area away.
    let (leaders, others): (Vec<_>, Vec<_>) = threads.iter().partition(|thread| thread.tid == task.pid);
    for thread in others.into_iter().chain(leaders) {
        let remote = Injector::on_scratch(task.pid, thread.tid, &memory, scratch)?;
        let mut builder = Builder::new(remote);
        builder.remote.dies_with_us();
        if thread.tid == task.pid {
            sighand::restore_pending(&mut builder, &task.pending, true)?;
            timer::restore_itimers(&mut builder, &task.itimers)?;
        }
        thread::restore_thread(&mut builder, thread)?;
        if thread.tid == task.pid {
            mm::restore_dumpable(&mut builder, &mm)?;
            builder.remote.own_scratch();
        }
        if let Some(restart) = &thread.restart {
            thread::restore_restart(&mut builder, restart)?;
        }
        builder.remote.finish()?;
    }
    leader::let_go(&task)?;
    leader.keep();
    Ok(Restored { root_pid: task.pid, tracking })
}

/// The one record of a kind: images of several processes come with a later version.
fn the_only<T: Record>(image: &Image) -> RestoreResult<T> {
    let mut records: Vec<T> = image.records()?;
    match (records.pop(), records.len()) {
        (Some(record), 0) => Ok(record),
        (_, more) => Err(RestoreError::Inconsistent {
            what: format!("{} records of kind {} where there must be one", more, T::KIND),
        }),
    }
}
