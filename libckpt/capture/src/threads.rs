//! The threads of one stopped process: several are asked at a time, for a thread that is let run for its answers takes longer to come back than to answer.
use crate::error::CaptureResult;
use crate::files::RingUsers;
use crate::interrupted::LastRan;
use crate::process::Process;
use crate::seccomp::Filters;
use crate::thread::{Still, ask_thread, capture_thread};
use crate::{capture, controls, memory_policy};
use ckpt_image::record::{PolicyV1, ThreadControlsV1, ThreadV1};
use ckpt_sys::inject::{Injector, LANES, Scratch};
use ckpt_sys::proc::stand_in;

/// What the records of threads are made with.
pub(crate) struct Asking<'a> {
    /// The process; it has a scratch area, which is taken away.
    pub(crate) process: &'a Process,
    /// That area.
    pub(crate) scratch: Scratch,
    /// Flags of the threads.
    pub(crate) last_ran: &'a LastRan,
    /// Asked for what threads have registered with io_uring; None: they have no instances.
    pub(crate) ring_users: Option<&'a mut RingUsers>,
    /// Filters of system calls.
    pub(crate) filters: &'a mut Filters,
}

/// What is known of threads.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    /// Their records, the leader's first.
    pub(crate) records: Vec<ThreadV1>,
    /// What prctl(2) has set.
    pub(crate) controls: Vec<ThreadControlsV1>,
    /// Their memory policies, of those that have one.
    pub(crate) policies: Vec<(i32, PolicyV1)>,
}

/// Captures all threads of a process, the leader first in `threads`.
pub(crate) fn capture_threads(
    mut asking: Asking<'_>,
    threads: impl DoubleEndedIterator<Item = (i32, Still)>,
) -> CaptureResult<Threads> {
    let mut found = Threads::default();
    let outcome = asking.ask_all(threads, &mut found);
    if outcome.is_err() {
        asking.give_up();
    }
    outcome?;
    found.records.reverse();
    capture::point("capture.threads")?;
    Ok(found)
}

impl Asking<'_> {
    /// The leader comes last and takes the scratch area away.
    fn ask_all(
        &mut self,
        threads: impl DoubleEndedIterator<Item = (i32, Still)>,
        found: &mut Threads,
    ) -> CaptureResult<()> {
        let (pid, memory) = (self.process.pid, &self.process.memory);
        let mut left = threads.rev().peekable();
        while left.peek().is_some() {
            let mut asked = Vec::with_capacity(LANES);
            for (lane, (tid, still)) in left.by_ref().take(LANES).enumerate() {
                let mut injector =
                    Injector::stand_with(pid, still.standing(tid), memory, self.scratch.lane(lane))?;
                if let Some(users) = &mut self.ring_users {
                    users.ask(&mut injector)?;
                }
                injector.end_batches_by(still.meaningless_signal());
                injector.known_as(still.status.inner_ids());
                let mut batch = injector.batch();
                let answers = (ask_thread(pid, &mut batch), controls::ask_thread(pid, &mut batch));
                let policy = memory_policy::ask_thread(&mut batch);
                asked.push((injector.begin(batch)?, injector, still, (answers, policy)));
            }
            for (begun, mut injector, still, ((thread, own), policy)) in asked {
                let tid = injector.tid();
                let answers = injector.end(begun)?;
                let (told, told_controls) = (thread(&answers)?, own(&answers)?);
                let flags = self.last_ran.flags(tid);
                found.policies.extend(policy(&answers).map(|policy| (tid, policy)));
                found.controls.push(controls::capture_thread(
                    pid,
                    tid,
                    &told_controls,
                    flags,
                    &still.status,
                )?);
                found.records.push(capture_thread(pid, tid, still, told, self.filters)?);
                // Not before: with a failure it would go while others stand on it.
                if tid == stand_in::of(pid) {
                    injector.own_scratch();
                }
                injector.finish()?;
            }
        }
        Ok(())
    }

    /// Takes the scratch area away after a failure, unless the leader has done so when it was let go.
    fn give_up(&self) {
        let pid = self.process.pid;
        let start = self.scratch.range().start;
        let is_there =
            || Some(ckpt_sys::proc::maps::maps(pid).ok()?.iter().any(|mapping| mapping.start == start));
        if is_there() != Some(true) {
            return;
        }
        match Injector::on_scratch(pid, stand_in::of(pid), &self.process.memory, self.scratch) {
            Ok(mut injector) => injector.own_scratch(),
            Err(error) => tracing::error!(pid, %error, "the scratch area stays until the next checkpoint"),
        }
    }
}
