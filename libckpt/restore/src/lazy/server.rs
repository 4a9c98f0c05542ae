//! The server: fills pages as they are touched, and all others meanwhile.
use super::plan::Plan;
use super::processes::Keeper;
use super::settle;
use super::space::{AddressSpace, Attempt};
use super::{FILLED, MEMORY, OWNER, PROCESS, RUNS, TRACKER};
use crate::error::RestoreResult;
use ckpt_dirty::Tracker;
use ckpt_image::page::{PAGE_SIZE, Space};
use ckpt_image::{Image, PageReader, fault};
use ckpt_sys::fate::{Fate, Numbers};
use ckpt_sys::handover::{self, Parcel};
use ckpt_sys::{SysError, late_pages, pidfd, spawn};
use nix::errno::Errno;
use nix::sys::prctl;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PAGE: u64 = PAGE_SIZE as u64;
/// Threads that fill what nobody waits for.
const FILLERS: usize = 2;
/// How long to wait for events when nothing else is to be done, milliseconds.
const LONG: i32 = 5;
/// The same while something has to be tried again, or children of the program are to be found.
const SHORT: i32 = 1;
/// How long to wait until an event has been read that stands in the way.
const EVENT: Duration = Duration::from_micros(50);

struct Server<'a> {
    image: &'a Image,
    plan: &'a Plan,
    numbers: Numbers,
    keeper: Keeper,
    work: Mutex<Work>,
    more: Condvar,
}

/// What is to be done without being asked for.
#[derive(Default)]
struct Work {
    queue: VecDeque<(Arc<AddressSpace>, Range<u64>)>,
    /// What has not been put into the queue yet.
    unordered: Vec<Arc<AddressSpace>>,
    under_way: usize,
    /// Before the job runs, whoever restores it needs the processors.
    begun: bool,
    over: bool,
}

/// What the main thread knows.
struct Job<'a> {
    spaces: Vec<Arc<AddressSpace>>,
    /// Pages that somebody waits for, and that could not be filled yet.
    again: Vec<(Arc<AddressSpace>, u64)>,
    /// Its processes: they end with this one.
    fates: BTreeMap<i32, Fate>,
    pidfds: Vec<OwnedFd>,
    trackers: BTreeMap<usize, OwnedFd>,
    /// Whose address spaces they are.
    owners: BTreeMap<usize, OwnedFd>,
    runs: bool,
    /// Reads the pages that somebody waits for.
    reader: PageReader<'a>,
}

impl<'a> Job<'a> {
    fn of(reader: PageReader<'a>) -> Self {
        Self {
            spaces: Vec::new(),
            again: Vec::new(),
            fates: BTreeMap::new(),
            pidfds: Vec::new(),
            trackers: BTreeMap::new(),
            owners: BTreeMap::new(),
            runs: false,
            reader,
        }
    }
}

/// Fills the job's memory; ends this process.
pub(super) fn run(
    (image, plan): (&Image, &Plan),
    socket: &OwnedFd,
    report: &OwnedFd,
    keeper: Keeper,
    numbers: Numbers,
) -> ! {
    let _ = prctl::set_name(c"ckpt-pages");
    let (work, more) = (Mutex::default(), Condvar::new());
    let server = Server { image, plan, numbers, keeper, work, more };
    let outcome = std::thread::scope(|scope| {
        for _ in 0..FILLERS {
            scope.spawn(|| {
                if let Err(error) = server.fill_all() {
                    fail(&error);
                }
            });
        }
        let outcome = server.serve(socket);
        if let Err(error) = &outcome {
            fail(error);
        }
        server.work().over = true;
        server.more.notify_all();
        outcome
    });
    let settled = outcome.and_then(|job| server.settle(job));
    if let Err(error) = &settled {
        tracing::info!(%error, "the next checkpoint takes all pages");
    }
    if settled.is_ok() {
        let _ = nix::unistd::write(report, &[FILLED]);
    }
    spawn::exit_now(0)
}

/// Nobody is to go on with half of its memory: the guard ends the job.
fn fail(error: &crate::RestoreError) -> ! {
    tracing::error!(%error, "memory cannot be filled");
    spawn::exit_now(1)
}

impl<'a> Server<'a> {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, space: &Arc<AddressSpace>, ranges: Vec<Range<u64>>) {
        self.work().queue.extend(ranges.into_iter().map(|range| (Arc::clone(space), range)));
        self.more.notify_all();
    }

    /// Answers whoever waits for a page, until nothing is missing any more.
    fn serve(&self, socket: &OwnedFd) -> RestoreResult<Job<'a>> {
        let mut job = Job::of(self.image.reader());
        loop {
            let open: Vec<(Arc<AddressSpace>, i32)> =
                job.spaces.iter().filter_map(|space| Some((Arc::clone(space), space.number()?))).collect();
            let mut numbers: Vec<i32> = open.iter().map(|(_, number)| *number).collect();
            if !job.runs {
                numbers.push(socket.as_raw_fd());
            }
            let copied = open.iter().any(|(space, _)| !space.is_first);
            let limit = if job.again.is_empty() && !copied { LONG } else { SHORT };
            let limit = if job.runs && open.is_empty() { 0 } else { limit };
            let told = late_pages::wait(&numbers, limit);
            if !job.runs && told.last() == Some(&true) {
                self.take(&mut job, handover::receive(socket.as_fd())?, socket)?;
            }
            let again = std::mem::take(&mut job.again);
            for ((space, _), _) in open.iter().zip(&told).filter(|(_, told)| **told) {
                self.events(&mut job, space)?;
            }
            for (space, page) in again {
                self.answer(&mut job, &space, page)?;
            }
            if copied {
                self.find_children(&mut job);
            }
            if self.is_done(&mut job) {
                // There is nothing left that it could miss.
                job.fates.clear();
                return Ok(job);
            }
        }
    }

    fn take(&self, job: &mut Job<'_>, parcel: Option<Parcel>, socket: &OwnedFd) -> RestoreResult<()> {
        // Whoever restores has ended: then what there is of the job runs, or ends with it.
        let Some(Parcel { words: [kind, number], fd }) = parcel else {
            self.begin(job);
            return Ok(());
        };
        let memory = usize::try_from(number).unwrap_or(usize::MAX);
        match (kind, fd) {
            (PROCESS, Some(process)) => {
                if let Some(pid) = pidfd::pid(process.as_raw_fd()) {
                    self.bind(job, pid);
                    job.pidfds.push(process);
                }
            }
            (MEMORY, Some(uffd)) => {
                let Some(plan) = self.plan.memories.get(memory) else { return Ok(()) };
                let uffd = self.numbers.between(uffd)?;
                handover::send(socket.as_fd(), [MEMORY, number], None)?;
                let space = Arc::new(AddressSpace::new(memory, uffd, plan.pages(self.image)));
                job.spaces.push(Arc::clone(&space));
                self.work().unordered.push(space);
                self.more.notify_one();
            }
            (OWNER, Some(process)) => drop(job.owners.insert(memory, process)),
            (TRACKER, Some(tracker)) => drop(job.trackers.insert(memory, tracker)),
            (RUNS, _) => self.begin(job),
            _ => {}
        }
        Ok(())
    }

    /// The job runs.
    fn begin(&self, job: &mut Job<'_>) {
        job.runs = true;
        self.work().begun = true;
        self.more.notify_all();
    }

    /// The job's process `pid` ends when this one does.
    fn bind(&self, job: &mut Job<'_>, pid: i32) {
        match self.numbers.bind(pid) {
            Ok(fate) => drop(job.fates.insert(pid, fate)),
            Err(error) => tracing::debug!(pid, %error, "only the guard ends it"),
        }
    }

    /// Children that the program has made since have its missing pages, too.
    fn find_children(&self, job: &mut Job<'_>) {
        for pid in self.keeper.job([]) {
            if !job.fates.contains_key(&pid) {
                self.bind(job, pid);
            }
        }
    }

    fn events(&self, job: &mut Job<'_>, space: &Arc<AddressSpace>) -> RestoreResult<()> {
        let events = space.read(|copy| self.numbers.between(copy))?;
        for copy in events.copies {
            let copy = Arc::new(copy);
            job.spaces.push(Arc::clone(&copy));
            self.add(&copy, copy.missing());
        }
        self.add(space, events.moved);
        events.faults.into_iter().try_for_each(|page| self.answer(job, space, page))
    }

    /// Fills a page that somebody waits for, and those that are read with it.
    fn answer(&self, job: &mut Job<'_>, space: &Arc<AddressSpace>, page: u64) -> RestoreResult<()> {
        fault("lazy.answer")?;
        let attempt = match space.parts(&(page..page + PAGE)).first() {
            None => space.put_zeros(page)?,
            Some(part) => {
                let image = Space::Private(self.plan.memories[space.memory].mm);
                let block = self.image.block_around(image, part.source / PAGE);
                let block = block.unwrap_or(part.source / PAGE..part.source / PAGE + 1);
                // Where the block would be if it had been moved as a whole; what was not is left out.
                let before = (part.source - block.start * PAGE).min(page);
                let after = block.end * PAGE - part.source;
                let attempt = self.fill(&mut job.reader, space, &(page - before..page + after))?;
                // Whoever waits may have asked when another had been there already.
                if attempt == Attempt::Done { space.put_zeros(page)? } else { attempt }
            }
        };
        if attempt == Attempt::Again {
            job.again.push((Arc::clone(space), page));
        }
        Ok(())
    }

    /// Fills what is missing in a range, if nothing stands in the way.
    fn fill(
        &self,
        reader: &mut PageReader<'_>,
        space: &AddressSpace,
        range: &Range<u64>,
    ) -> RestoreResult<Attempt> {
        let image = Space::Private(self.plan.memories[space.memory].mm);
        let mut attempt = Attempt::Done;
        for part in space.parts(range) {
            let pages = part.source / PAGE..(part.source + part.len) / PAGE;
            reader.for_each_run::<crate::RestoreError>(image, pages, &mut |page, bytes| {
                let skipped = page * PAGE - part.source;
                let here = super::missing::Part {
                    address: part.address + skipped,
                    source: page * PAGE,
                    len: u64::try_from(bytes.len()).unwrap_or(0),
                };
                if space.put(here, bytes)? == Attempt::Again {
                    attempt = Attempt::Again;
                }
                Ok(())
            })?;
        }
        Ok(attempt)
    }

    /// A thread that fills what nobody waits for.
    fn fill_all(&self) -> RestoreResult<()> {
        let mut reader = self.image.reader();
        loop {
            let mut work = self.work();
            let (space, range) = loop {
                if work.over {
                    return Ok(());
                }
                if let Some(space) = work.unordered.pop() {
                    work.under_way += 1;
                    drop(work);
                    self.add(&space, self.plan.memories[space.memory].order(self.image));
                    work = self.work();
                    work.under_way -= 1;
                    continue;
                }
                let next = if work.begun { work.queue.pop_front() } else { None };
                match next {
                    Some(next) => break next,
                    None => work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner),
                }
            };
            work.under_way += 1;
            drop(work);
            fault("lazy.fill")?;
            while self.fill(&mut reader, &space, &range)? == Attempt::Again {
                std::thread::sleep(EVENT);
            }
            self.work().under_way -= 1;
        }
    }

    /// Closes what is full. Whether all is, and nothing more can come.
    fn is_done(&self, job: &mut Job<'_>) -> bool {
        let work = self.work();
        let idle = work.queue.is_empty() && work.unordered.is_empty() && work.under_way == 0;
        drop(work);
        let mut full = true;
        for space in &job.spaces {
            if !space.close_if_full() {
                full = false;
                if idle {
                    // What was moved while it was under way.
                    self.add(space, space.missing());
                }
            }
        }
        job.spaces.retain(|space| space.number().is_some());
        full && job.runs
    }

    /// Tracks writes from now on.
    fn settle(&self, job: Job<'_>) -> RestoreResult<()> {
        fault("lazy.settle")?;
        for (memory, tracker) in job.trackers {
            let owner = job.owners.get(&memory).and_then(|process| pidfd::pid(process.as_raw_fd()));
            // It has ended.
            let Some(pid) = owner else { continue };
            settle::settle(self.image, &self.plan.memories[memory], &mut Tracker::with_fd(pid, tracker))?;
        }
        Ok(())
    }
}

/// A place where a test may have this process die.
fn fault(name: &str) -> RestoreResult<()> {
    fault::point(name).map_err(|error| {
        SysError::new("fill", name, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))).into()
    })
}
