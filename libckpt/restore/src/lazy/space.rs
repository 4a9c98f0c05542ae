//! One address space that is being filled.
use super::missing::{Missing, Part};
use ckpt_sys::late_pages::{self, Message};
use ckpt_sys::{SysError, SysResult};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: u64 = 4096;

/// An address space of the job. What is read of its events and what is filled are steps of one lock: nothing is filled by what an event that has been
/// read made untrue.
#[derive(Debug)]
pub(super) struct AddressSpace {
    /// Its number in the plan.
    pub(super) memory: usize,
    /// It is no copy that the program has made since.
    pub(super) is_first: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// None: it is full, or gone.
    uffd: Option<OwnedFd>,
    missing: Missing,
}

/// What became of an attempt to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It is full, or needs nothing any more.
    Done,
    /// First there is an event to be read.
    Again,
}

/// What the events asked for.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Pages that somebody waits for.
    pub(super) faults: Vec<u64>,
    /// Copies of the address space.
    pub(super) copies: Vec<AddressSpace>,
    /// Where pages went that are still to be filled.
    pub(super) moved: Vec<Range<u64>>,
}

impl AddressSpace {
    /// An address space of which these pages are missing.
    pub(super) fn new(memory: usize, uffd: OwnedFd, pages: Vec<Range<u64>>) -> Self {
        let mut missing = Missing::default();
        for range in pages {
            let len = range.end - range.start;
            missing.insert(Part { address: range.start, source: range.start, len });
        }
        Self { memory, is_first: true, inner: Mutex::new(Inner { uffd: Some(uffd), missing }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The userfaultfd, to be polled; None: there is nothing to wait for.
    pub(super) fn number(&self) -> Option<RawFd> {
        self.lock().uffd.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// What is missing.
    pub(super) fn missing(&self) -> Vec<Range<u64>> {
        self.lock().missing.ranges()
    }

    /// What is missing within `range`.
    pub(super) fn parts(&self, range: &Range<u64>) -> Vec<Part> {
        self.lock().missing.parts(range)
    }

    /// Closes the userfaultfd when nothing is missing; the kernel fills the rest with zeros from then on. Whether it is closed.
    pub(super) fn close_if_full(&self) -> bool {
        let mut inner = self.lock();
        if inner.missing.is_empty() {
            inner.uffd = None;
        }
        inner.uffd.is_none()
    }

    /// Reads all events there are.
    pub(super) fn read(&self, place: impl Fn(OwnedFd) -> SysResult<OwnedFd>) -> SysResult<Events> {
        let mut events = Events::default();
        let mut inner = self.lock();
        let Inner { uffd: Some(uffd), missing } = &mut *inner else { return Ok(events) };
        loop {
            let messages = late_pages::read(uffd.as_fd())?;
            if messages.is_empty() {
                return Ok(events);
            }
            for message in messages {
                match message {
                    Message::Fault(address) => events.faults.push(address & !(PAGE - 1)),
                    Message::Gone(range) => missing.remove(&range),
                    Message::Moved { from, to, len } => {
                        missing.moved(&(from..from + len), to);
                        events.moved.push(to..to + len);
                    }
                    Message::Fork(copy) => events.copies.push(Self {
                        memory: self.memory,
                        is_first: false,
                        inner: Mutex::new(Inner { uffd: Some(place(copy)?), missing: missing.clone() }),
                    }),
                }
            }
        }
    }

    /// Gives who waits for a page that the image does not have what the kernel would have given: zeros.
    pub(super) fn put_zeros(&self, page: u64) -> SysResult<Attempt> {
        let mut inner = self.lock();
        if !inner.missing.parts(&(page..page + PAGE)).is_empty() {
            return Ok(Attempt::Again);
        }
        let Some(uffd) = &inner.uffd else { return Ok(Attempt::Done) };
        match late_pages::zero(uffd.as_fd(), page..page + PAGE) {
            Ok(()) => Ok(Attempt::Done),
            Err(Errno::EAGAIN) => Ok(Attempt::Again),
            // It has come meanwhile, or what was there is not any more.
            Err(Errno::EEXIST | Errno::ENOENT) => {
                late_pages::wake(uffd.as_fd(), page..page + PAGE);
                Ok(Attempt::Done)
            }
            Err(Errno::ESRCH) => Ok(inner.is_gone()),
            Err(errno) => Err(SysError::new("ioctl(UFFDIO_ZEROPAGE)", format!("{page:#x}"), errno)),
        }
    }

    /// Fills from `bytes` of the image, those of `part` or of the beginning of it, what is still missing.
    pub(super) fn put(&self, part: Part, bytes: &[u8]) -> SysResult<Attempt> {
        let mut inner = self.lock();
        let len = u64::try_from(bytes.len()).unwrap_or(0);
        for wanted in inner.missing.parts(&(part.address..part.address + len)) {
            let skipped = wanted.address - part.address;
            if wanted.source != part.source + skipped {
                continue;
            }
            let from = usize::try_from(skipped).unwrap_or(usize::MAX);
            let count = usize::try_from(wanted.len).unwrap_or(0);
            let bytes = bytes.get(from..from + count).unwrap_or_default();
            if inner.copy(wanted.address, bytes)? == Attempt::Again {
                return Ok(Attempt::Again);
            }
        }
        Ok(Attempt::Done)
    }
}

impl Inner {
    fn copy(&mut self, address: u64, bytes: &[u8]) -> SysResult<Attempt> {
        let page = usize::try_from(PAGE).unwrap_or(4096);
        let (mut done, mut step) = (0, bytes.len());
        while done < bytes.len() {
            let Some(uffd) = &self.uffd else { return Ok(Attempt::Done) };
            let at = address + u64::try_from(done).unwrap_or(0);
            let end = bytes.len().min(done + step);
            let (copied, problem) = late_pages::copy(uffd.as_fd(), at, &bytes[done..end]);
            if copied > 0 {
                self.missing.remove(&(at..at + u64::try_from(copied).unwrap_or(0)));
                done += copied;
                continue;
            }
            match problem {
                None => done = end,
                Some(Errno::EAGAIN) => return Ok(Attempt::Again),
                // Perhaps it is two mappings by now.
                Some(Errno::ENOENT) if step > page => step = page,
                // The program has put something else there: guard pages, another mapping.
                Some(Errno::EEXIST | Errno::ENOENT) => {
                    late_pages::wake(uffd.as_fd(), at..at + PAGE);
                    self.missing.remove(&(at..at + PAGE));
                    done += page;
                }
                Some(Errno::ESRCH) => return Ok(self.is_gone()),
                Some(errno) => {
                    return Err(SysError::new("ioctl(UFFDIO_COPY)", format!("{at:#x}"), errno));
                }
            }
        }
        Ok(Attempt::Done)
    }

    /// The program has ended, or executes another.
    fn is_gone(&mut self) -> Attempt {
        self.missing.clear();
        self.uffd = None;
        Attempt::Done
    }
}
