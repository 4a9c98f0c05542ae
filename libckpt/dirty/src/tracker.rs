//! Dirty pages of one process.
use crate::error::DirtyResult;
use crate::hot::{HotPages, Limits, Streaks};
use crate::pages::{Kind, Pages};
use crate::ranges::{gaps, push, within};
use crate::{full, install, parts};
use ckpt_sys::inject::Injector;
use ckpt_sys::pagemap::{CHECK_WPASYNC, PageRegion, Pagemap, Query, WP_MATCHING, category};
use ckpt_sys::proc::maps;
use ckpt_sys::{SysResult, uffd};
use nix::errno::Errno;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Tracks the pages of one process.
///
/// What a scan tells of a page is used up by it. [`Self::begin`] opens a capture; [`Self::collect`] is for a process that is stopped,
/// [`Self::collect_running`] for one that runs.
#[derive(Debug)]
pub struct Tracker {
    pid: i32,
    uffd: Option<OwnedFd>,
    pagemap: Option<Pagemap>,
    /// Where a scan of the running process may have used up what it did not tell, by rising start.
    doubtful: Vec<Range<u64>>,
    /// The kernel knows PAGE_IS_GUARD (6.15).
    knows_guards: bool,
    /// What is known of pages from the captures before.
    hot: HotPages,
    /// Those that this capture has found written in the pause.
    found_hot: Streaks,
}

/// What may be left unprotected, and be copied, in each pause.
const IN_PAUSE: Limits = Limits { run: 1 << 12, total: 128 << 12 };
/// What may be unprotected after the pause: a call for each run costs as much as a page fault.
const IN_INTERVAL: Limits = Limits { run: 16 << 12, total: u64::MAX };

/// Bytes that are unprotected at once: the program cannot map memory meanwhile.
const AT_ONCE: u64 = 16 << 20;

/// Bytes between two dirty pages that it takes as long to look through as to ask the kernel once more.
const GAP: u64 = 512 << 12;

/// Stretches of memory that have all of `ranges`, which rise, and little else.
pub(crate) fn spans(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match spans.last_mut() {
            Some(last) if range.start - last.end <= GAP => last.end = range.end,
            _ => spans.push(range.clone()),
        }
    }
    spans
}

impl Tracker {
    /// A tracker of `pid` without a userfaultfd yet.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        let (hot, found_hot) = <_>::default();
        Self { pid, uffd: None, pagemap: None, doubtful: Vec::new(), knows_guards: true, hot, found_hot }
    }

    /// A tracker of `pid` with a userfaultfd that `pid` made. Its handshake may have been made or not.
    #[must_use]
    pub fn with_fd(pid: i32, fd: OwnedFd) -> Self {
        // An error means that the handshake was made before; a handshake without WP_ASYNC is found out by `is_attached`.
        let _ = uffd::enable_wp_async(fd.as_fd());
        Self { uffd: Some(fd), ..Self::new(pid) }
    }

    /// The userfaultfd.
    #[must_use]
    pub fn into_fd(self) -> Option<OwnedFd> {
        self.uffd
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What is known of its pages from captures.
    #[must_use]
    pub fn hot_pages(&self) -> &HotPages {
        &self.hot
    }

    /// See [`crate::Tracking::with_hot_pages`].
    pub fn set_hot_pages(&mut self, hot: HotPages) {
        self.hot = hot;
    }

    /// Begins a capture: [`Self::verify`], with nothing in doubt.
    pub fn begin(&mut self) -> SysResult<()> {
        self.doubtful.clear();
        self.found_hot = Streaks::default();
        self.verify()
    }

    /// Ends a capture that found `written` since the one before, by address; the process runs. None: that was not to be told. What it writes each time is unprotected.
    pub fn end(&mut self, written: Option<&[Range<u64>]>) {
        self.hot.pause = std::mem::take(&mut self.found_hot);
        self.hot.interval =
            written.map_or_else(Streaks::default, |written| self.hot.interval.after(written, IN_INTERVAL));
        for range in self.hot.interval.unprotected() {
            let mut start = range.start;
            while start < range.end {
                let end = range.end.min(start + AT_ONCE);
                // An error: it was unmapped meanwhile, or in part.
                let _ = self.distrust(start..end);
                start = end;
            }
        }
    }

    /// The pages of `range` that are not protected, and so dirty, in each pause.
    #[must_use]
    pub fn always_dirty(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        within(&self.hot.pause.unprotected().collect::<Vec<_>>(), range)
    }

    /// Opens the page map of the address space that the process has now, and drops a userfaultfd that belongs to another (the process has
    /// exec'ed, or its pid is another process's).
    pub fn verify(&mut self) -> SysResult<()> {
        let pagemap = Pagemap::open(self.pid)?;
        let mut nothing = Vec::new();
        let guards = Query { any: category::GUARD, report: category::GUARD, ..Query::default() };
        // An empty range: only the categories are checked.
        self.knows_guards = match pagemap.scan(0..4096, guards, &mut nothing) {
            Err(error) if error.errno() == Some(Errno::EINVAL) => false,
            outcome => outcome.map(|()| true)?,
        };
        self.pagemap = Some(pagemap);
        full::prepare();
        if self.uffd.is_some() && !self.belongs_here()? {
            tracing::debug!(pid = self.pid, "the userfaultfd is of another address space");
            self.uffd = None;
            self.hot = HotPages::default();
        }
        Ok(())
    }

    /// Forgets what was tracked: all pages are dirty. To be called after [`Self::begin`]; the process may run.
    pub fn reset(&mut self) -> SysResult<()> {
        let Some(fd) = &self.uffd else { return Ok(()) };
        // The userfaultfd itself may have other holders, so closing it would not do.
        let mut unsure = Vec::new();
        for mapping in maps::maps(self.pid)? {
            // An error: it never was registered, or part of it was replaced since it was listed.
            if uffd::unregister(fd.as_fd(), mapping.range()).is_err() {
                unsure.push(mapping.range());
            }
        }
        unsure.into_iter().for_each(|range| self.doubt(range));
        Ok(())
    }

    /// How many pages of `range` may have been written since the last look, or all if it is not tracked, but for those that are always dirty; nothing is used up.
    pub fn count_dirty(&self, range: Range<u64>, kind: Kind) -> SysResult<u64> {
        let mut regions = Vec::new();
        self.scan(range.clone(), self.remarkable(kind), &mut regions)?;
        let always = self.always_dirty(&range);
        let pages = Pages::sort(range, &regions, kind, &[]);
        let dirty = pages.dirty.iter().flat_map(|range| gaps(range, &within(&always, range)));
        Ok(dirty.map(|range| (range.end - range.start) / 4096).sum())
    }

    /// Whether the process has a userfaultfd with us; if not, [`Self::attach`] makes one.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.uffd.is_some()
    }

    /// Gives up tracking, so that the process itself may register all of its memory; it may run.
    pub fn detach(&mut self) -> SysResult<()> {
        self.reset()?;
        self.uffd = None;
        Ok(())
    }

    /// Has the process make a userfaultfd for us, if there is none. Without one (not permitted, kernel too old) all pages count as dirty each time.
    pub fn attach(&mut self, injector: &mut Injector<'_>) -> DirtyResult<()> {
        if self.uffd.is_none() {
            self.uffd = install::install(injector)?;
        }
        Ok(())
    }

    /// The pages of the mapping `range` of a process that is stopped. Dirty ones are protected, so that the next look finds only pages written
    /// from now on, and those that are written each time.
    pub fn collect(&mut self, range: Range<u64>, kind: Kind) -> SysResult<Pages> {
        let regions = self.look(range.clone(), kind)?;
        self.protect(range, kind, &regions)
    }

    /// As [`Self::collect`], of anonymous mappings that lie side by side, with one look at all of them: a program with many threads has many small ones.
    pub fn collect_small(&mut self, mappings: &[Range<u64>]) -> SysResult<Vec<Pages>> {
        let (Some(first), Some(last)) = (mappings.first(), mappings.last()) else { return Ok(Vec::new()) };
        let regions = self.scan_part(first.start..last.end, self.remarkable(Kind::Anonymous))?;
        let mut pages = Vec::with_capacity(mappings.len());
        for mapping in mappings {
            let from = regions.partition_point(|region| region.end <= mapping.start);
            let to = regions.partition_point(|region| region.start < mapping.end);
            let mut within = regions[from..to].to_vec();
            for region in &mut within {
                (region.start, region.end) = (region.start.max(mapping.start), region.end.min(mapping.end));
            }
            pages.push(self.protect(mapping.clone(), Kind::Anonymous, &within)?);
        }
        Ok(pages)
    }

    /// Sorts what a look at the mapping `range` told, and protects what is dirty.
    fn protect(&mut self, range: Range<u64>, kind: Kind, regions: &[PageRegion]) -> SysResult<Pages> {
        let mut pages = Pages::sort(range.clone(), regions, kind, &self.doubtful);
        if self.uffd.is_none() {
            // Somebody else's protection tells nothing of ours.
            pages.dirty.clone_from(&pages.populated);
        }
        if !pages.dirty.is_empty() && self.register(range.clone()) {
            let hot = self.find_hot(&pages.dirty);
            let mut protected = Vec::new();
            for span in gaps(&range, &hot).iter().flat_map(|part| spans(&within(&pages.dirty, part))) {
                match self.scan(span, self.written(kind), &mut protected) {
                    // Registered by somebody else's rules: it stays untracked.
                    Err(error) if error.errno() == Some(Errno::EPERM) => break,
                    outcome => outcome?,
                }
            }
        }
        Ok(pages)
    }

    /// Those of the pages of a mapping that were found written in the pause which are not to be protected.
    fn find_hot(&mut self, written: &[Range<u64>]) -> Vec<Range<u64>> {
        let bytes = |ranges: &mut dyn Iterator<Item = Range<u64>>| -> u64 {
            ranges.map(|range| range.end - range.start).sum()
        };
        // It was not tracked, or is written faster than it is copied: that does not tell which are hot.
        if bytes(&mut written.iter().cloned()) > 4 * IN_PAUSE.total {
            return Vec::new();
        }
        let total = IN_PAUSE.total - bytes(&mut self.found_hot.unprotected());
        let found = self.hot.pause.after(written, Limits { total, ..IN_PAUSE });
        let hot = found.unprotected().collect();
        self.found_hot.append(found);
        hot
    }

    /// What there is to tell of the pages of a mapping: of all but those that are there and have not been written.
    fn look(&self, range: Range<u64>, kind: Kind) -> SysResult<Vec<PageRegion>> {
        // Before Linux 6.9 the quick look takes some pages that are on their way elsewhere for others; a kernel that knows guards is newer.
        if kind == Kind::Anonymous && self.uffd.is_some() && self.knows_guards {
            match full::look(self, range.clone()) {
                // Registered by somebody else's rules, or not at all.
                Err(error) if error.errno() == Some(Errno::EPERM) => {}
                outcome => return outcome,
            }
        }
        let mut regions = Vec::new();
        self.scan(range, self.remarkable(kind), &mut regions)?;
        Ok(regions)
    }

    /// Pages written since the last look in `range` of a process that runs, protected anew, but for those that are always dirty. What the process does to its mappings
    /// meanwhile is harmless: what could not be told for certain is dirty in the next [`Self::collect`].
    pub fn collect_running(&mut self, range: Range<u64>, kind: Kind) -> Vec<Range<u64>> {
        if !self.register(range.clone()) {
            return Vec::new();
        }
        let mut regions = Vec::new();
        for part in gaps(&range, &self.always_dirty(&range)) {
            if let Err(error) = self.scan(part, self.written(kind), &mut regions) {
                tracing::debug!(pid = self.pid, %error, "pre-copy skips a mapping");
                self.doubt(range);
                return Vec::new();
            }
        }
        let mut found = Vec::new();
        regions.iter().for_each(|region| push(&mut found, region.start..region.end));
        found
    }

    /// Counts `range` as dirty in the next [`Self::collect`]: what was told of it could not be used.
    pub fn doubt(&mut self, range: Range<u64>) {
        let at = self.doubtful.partition_point(|known| known.start <= range.start);
        self.doubtful.insert(at, range);
    }

    /// Registers and protects `range`, whose pages are all known to the caller: only writes from now on are dirty. Whether that could be done.
    pub fn start(&mut self, range: Range<u64>, kind: Kind) -> SysResult<bool> {
        if !self.register(range.clone()) {
            return Ok(false);
        }
        let mut protected = Vec::new();
        match self.scan(range, self.written(kind), &mut protected) {
            Err(error) if error.errno() == Some(Errno::EPERM) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// Counts the pages of `range` as written since they were protected.
    pub fn distrust(&self, range: Range<u64>) -> SysResult<()> {
        let Some(fd) = &self.uffd else { return Ok(()) };
        uffd::unprotect(fd.as_fd(), range)
    }

    /// The userfaultfd.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.uffd.as_ref().map(AsFd::as_fd)
    }

    /// Whether the program, or somebody else, has registered `range` with a userfaultfd of its own.
    #[must_use]
    pub fn is_foreign(&self, range: Range<u64>) -> bool {
        let Some(fd) = &self.uffd else { return true };
        uffd::register_wp(fd.as_fd(), range).is_err_and(|error| error.errno() == Some(Errno::EBUSY))
    }

    fn register(&self, range: Range<u64>) -> bool {
        let Some(fd) = &self.uffd else { return false };
        match uffd::register_wp(fd.as_fd(), range) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(pid = self.pid, %error, "a mapping stays untracked");
                false
            }
        }
    }

    /// Registers a mapping that every process has and looks whether that shows.
    fn belongs_here(&self) -> SysResult<bool> {
        let private = |mapping: &&maps::Mapping| {
            !mapping.shared && mapping.inode == 0 && mapping.prot & libc::PROT_WRITE.unsigned_abs() != 0
        };
        let mappings = maps::maps(self.pid)?;
        let stack = mappings.iter().find(|mapping| mapping.path == b"[stack]");
        let Some(probe) = stack.or_else(|| mappings.iter().find(private)) else {
            return Ok(false);
        };
        if !self.register(probe.range()) {
            return Ok(false);
        }
        let query = Query { flags: CHECK_WPASYNC, any: category::WRITTEN, ..Query::default() };
        let mut found = Vec::new();
        match self.scan(probe.range(), Query { report: category::WRITTEN, ..query }, &mut found) {
            Err(error) if error.errno() == Some(Errno::EPERM) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    fn scan(&self, range: Range<u64>, query: Query, found: &mut Vec<PageRegion>) -> SysResult<()> {
        let look = |range: Range<u64>| self.scan_part(range, query);
        found.extend(parts::look_in_parts(range, look)?.into_iter().flatten());
        Ok(())
    }

    /// As [`Self::scan`], with this thread alone.
    pub(crate) fn scan_part(&self, range: Range<u64>, query: Query) -> SysResult<Vec<PageRegion>> {
        let mut found = Vec::new();
        match &self.pagemap {
            Some(pagemap) => pagemap.scan(range, query, &mut found),
            None => Pagemap::open(self.pid)?.scan(range, query, &mut found),
        }?;
        Ok(found)
    }

    /// All but the pages that are there, are the program's own, and have not been written. The kernel takes several times as long to tell of a page as to pass it
    /// by, and those are the most.
    pub(crate) fn remarkable(&self, kind: Kind) -> Query {
        use category::{FILE, GUARD, PFNZERO, PRESENT, SWAPPED, WPALLOWED, WRITTEN};
        let guard = if self.knows_guards { GUARD } else { 0 };
        let file = if kind == Kind::PrivateFile { FILE } else { 0 };
        let any = PRESENT | WPALLOWED | WRITTEN | PFNZERO | guard | file;
        Query { inverted: PRESENT | WPALLOWED, any, report: any | SWAPPED, ..Query::default() }
    }

    /// Pages to protect. Holes never match: protecting one costs a page table entry, and a reservation has billions of them. (That is also
    /// why WRITTEN is never asked for alone: the kernel then takes holes for written, and without a vector it protects whatever is there.)
    fn written(&self, kind: Kind) -> Query {
        use category::{FILE, GUARD, PFNZERO, PRESENT, SWAPPED, WRITTEN};
        let guard = if self.knows_guards { GUARD } else { 0 };
        let not = match kind {
            Kind::Anonymous => PFNZERO | guard,
            Kind::PrivateFile => FILE | guard,
            Kind::Shared => guard,
        };
        Query {
            flags: WP_MATCHING | CHECK_WPASYNC,
            inverted: not,
            all: WRITTEN | not,
            any: PRESENT | SWAPPED,
            report: WRITTEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use category::{PRESENT, WPALLOWED};

    #[test]
    fn doubts_count_in_whatever_order_they_come() {
        let mut tracker = Tracker::new(1);
        for page in [9, 2, 5, 1, 7] {
            tracker.doubt(page << 12..(page + 1) << 12);
        }
        let clean = PageRegion { start: 0, end: 0xf000, categories: PRESENT | WPALLOWED };
        let pages = Pages::sort(0..0xf000, &[clean], Kind::Anonymous, &tracker.doubtful);
        assert_eq!(pages.dirty, [0x1000..0x3000, 0x5000..0x6000, 0x7000..0x8000, 0x9000..0xa000]);
    }
}
