//! Memory for copies of pages that the daemon lends to one save after the other, so that saves that follow each other closely find it there.
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long it is kept for the next save.
const KEPT: Duration = Duration::from_secs(5);

/// Keeps what no save uses.
#[derive(Debug, Default)]
pub(super) struct Lender(RefCell<Option<(OwnedFd, Instant)>>);

impl Lender {
    /// Memory for one save, and a copy of its descriptor to hand on; of those that run at the same time, each has its own. None: the save makes its own.
    pub(super) fn lend(&self) -> Option<(OwnedFd, OwnedFd)> {
        let kept = self.0.take().map(|(memory, _)| memory);
        let memory = kept.or_else(|| ckpt_sys::lent_memory::make().ok())?;
        let copy = memory.try_clone().ok()?;
        Some((memory, copy))
    }

    /// Takes back what nobody uses any more.
    pub(super) fn take_back(&self, memory: OwnedFd) {
        self.0.replace(Some((memory, Instant::now())));
    }

    /// Gives it up when it was not used for long.
    pub(super) fn forget(&self) {
        let mut kept = self.0.borrow_mut();
        if kept.as_ref().is_some_and(|(_, since)| since.elapsed() > KEPT) {
            *kept = None;
        }
    }
}
