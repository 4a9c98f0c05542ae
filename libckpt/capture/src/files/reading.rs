//! Reading descriptors of stopped processes: it needs no tracer, so other threads do it while the job's threads are asked.
use super::ahead::Ahead;
use super::fdinfo::FdInfo;
use super::index::{self, Place, show};
use crate::error::CaptureResult;
use ckpt_sys::{SysError, pidfd};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// Descriptors that are worth a thread.
const WORTH: usize = 32;
/// Descriptors that a thread takes at a time.
const PIECE: usize = 8;

/// A descriptor, and what was read of its description.
#[derive(Debug)]
pub(crate) struct Raw {
    /// What the link in /proc says.
    pub(crate) link: Vec<u8>,
    /// What fdinfo says.
    pub(crate) info: FdInfo,
    /// Its inode.
    pub(crate) meta: Metadata,
    /// Our duplicate.
    pub(crate) dup: File,
}

impl Raw {
    /// Reads descriptor `fd` of process `pid`.
    pub(crate) fn read(
        pid: i32,
        process: BorrowedFd<'_>,
        fd: i32,
        ahead: Option<&Ahead>,
    ) -> CaptureResult<Self> {
        let info =
            ahead.and_then(|ahead| ahead.info((pid, fd))).map_or_else(|| index::read_info(pid, fd), Ok)?;
        let known = ahead.and_then(|ahead| ahead.link((pid, fd), &info)).map(<[u8]>::to_vec);
        let link = known.map_or_else(|| index::read_link(pid, fd), Ok)?;
        Self::of_duplicate(link, info, pidfd::getfd(process, fd)?)
    }

    /// Of a descriptor of our own.
    pub(crate) fn of_duplicate(link: Vec<u8>, info: FdInfo, dup: OwnedFd) -> CaptureResult<Self> {
        let dup = File::from(dup);
        let meta = dup.metadata().map_err(|error| SysError::new("fstat", show(&link), error))?;
        Ok(Self { link, info, meta, dup })
    }
}

/// The descriptors of the tables of a job.
#[derive(Debug)]
pub(crate) struct Descriptors {
    ahead: Ahead,
    tables: HashMap<i32, Vec<i32>>,
    all: Vec<(Arc<OwnedFd>, Place)>,
    next: AtomicUsize,
    read: Mutex<HashMap<Place, CaptureResult<Raw>>>,
}

impl Descriptors {
    /// Of stopped processes, none of which shares its table with another. To be made before anything is run in them: that may need a descriptor for a moment.
    pub(crate) fn of(pids: impl Iterator<Item = i32>, ahead: Ahead) -> CaptureResult<Self> {
        let (mut tables, mut all) = (HashMap::new(), Vec::new());
        for pid in pids {
            let process = Arc::new(pidfd::open(pid)?);
            let fds = ahead.in_order(pid, index::list(pid)?);
            all.extend(fds.iter().map(|fd| (Arc::clone(&process), (pid, *fd))));
            tables.insert(pid, fds);
        }
        Ok(Self { ahead, tables, all, next: AtomicUsize::new(0), read: Mutex::default() })
    }

    /// The descriptors with this link, of those that had it before the pause or have come since.
    pub(crate) fn with_link(&self, link: &[u8]) -> Vec<Place> {
        let has = |(pid, fd): &Place| match self.ahead.earlier_link((*pid, *fd)) {
            Some(earlier) => earlier == link,
            None => index::read_link(*pid, *fd).is_ok_and(|now| now == link),
        };
        self.all.iter().map(|(_, place)| *place).filter(has).collect()
    }

    /// Lets another thread begin, if there are many.
    pub(crate) fn begin<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
    ) -> Reading<'scope, 'env> {
        let other = (self.all.len() > WORTH).then(|| scope.spawn(|| self.work()));
        Reading { all: self, other }
    }

    fn work(&self) {
        loop {
            let at = self.next.fetch_add(PIECE, Ordering::Relaxed);
            let Some(rest) = self.all.get(at..).filter(|rest| !rest.is_empty()) else { return };
            let read = |(process, place): &(Arc<OwnedFd>, Place)| {
                (*place, Raw::read(place.0, process.as_fd(), place.1, Some(&self.ahead)))
            };
            let read: Vec<_> = rest.iter().take(PIECE).map(read).collect();
            self.read.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
        }
    }
}

/// Descriptors that are being read.
pub(crate) struct Reading<'scope, 'env> {
    all: &'env Descriptors,
    other: Option<ScopedJoinHandle<'scope, ()>>,
}

impl Reading<'_, '_> {
    /// Reads what is left. What was read, by process and number.
    pub(crate) fn finish(&mut self) -> HashMap<Place, CaptureResult<Raw>> {
        self.all.work();
        if let Some(other) = self.other.take() {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        std::mem::take(&mut *self.all.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The numbers of a process, those of one file side by side; None: it was not known to have a table.
    pub(crate) fn table(&self, pid: i32) -> Option<&[i32]> {
        self.all.tables.get(&pid).map(Vec::as_slice)
    }
}

impl Drop for Reading<'_, '_> {
    fn drop(&mut self) {
        // After a failure nobody wants the rest.
        self.all.next.store(self.all.all.len(), Ordering::Relaxed);
    }
}
