//! What a copy-on-write clone of a page costs on this machine, found out by making some.
use crate::error::{SysError, SysResult};
use memmap2::{Advice, MmapMut};
use std::time::{Duration, Instant};

/// Pages that are cloned for it.
const PAGES: usize = 4096;
const PAGE_SIZE: usize = 4096;
/// How often: something else may come in between.
const TIMES: usize = 4;

/// The time that fork(2) takes for each page of 4 KiB that is there. It makes some short-lived children of this process, and takes 16 MiB for a moment.
///
/// # Errors
/// The system has no memory, or no process, for it.
pub fn per_page() -> SysResult<Duration> {
    let failed = |error| SysError::new("mmap", "pages to be cloned", error);
    let map = MmapMut::map_anon(PAGES * PAGE_SIZE).map_err(failed)?;
    // They are to be pages of the ordinary size.
    let _ = map.advise(Advice::NoHugePage);
    map.advise(Advice::PopulateWrite).map_err(failed)?;
    let (mut without, mut with) = (Duration::MAX, Duration::MAX);
    for _ in 0..TIMES {
        map.advise(Advice::DontFork).map_err(failed)?;
        without = without.min(fork()?);
        map.advise(Advice::DoFork).map_err(failed)?;
        with = with.min(fork()?);
    }
    Ok(with.saturating_sub(without) / u32::try_from(PAGES).unwrap_or(u32::MAX))
}

/// How long it takes to make a child of ours, which ends at once.
fn fork() -> SysResult<Duration> {
    let begin = Instant::now();
    // SAFETY: as fork(2), without a signal at its end. The child does nothing but end.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: no pointers; nothing of this process's is run.
        unsafe { libc::_exit(0) };
    }
    let took = begin.elapsed();
    if child == -1 {
        return Err(SysError::last("clone", "a child that ends at once"));
    }
    let child = i32::try_from(child).unwrap_or(0);
    while crate::ptrace::wait(child).is_err_and(|error| error.errno() == Some(nix::errno::Errno::EINTR)) {}
    Ok(took)
}

#[test]
fn a_page_costs_something() {
    // Less than the clock can tell of a page, or half a second, would be neither.
    let cost = per_page().unwrap();
    assert!(cost < Duration::from_millis(100), "{cost:?}");
}
