//! Threads that stand in for their process. When the main thread of a process has ended and others go on, the kernel tells nothing of memory, descriptors and
//! namespaces under the pid; it does under the id of another thread. [`look`] finds one, and from then on whatever of this library is asked about the process asks
//! that.
use super::stat::Stat;
use super::threads;
use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

static ANY: AtomicBool = AtomicBool::new(false);
static KNOWN: RwLock<BTreeMap<i32, i32>> = RwLock::new(BTreeMap::new());

/// The thread to be asked about process `pid`: the main thread, whose id is the same, or the one that stands in.
#[must_use]
pub fn of(pid: i32) -> i32 {
    if !ANY.load(Ordering::Acquire) {
        return pid;
    }
    KNOWN.read().ok().and_then(|known| known.get(&pid).copied()).unwrap_or(pid)
}

/// Whether process `pid` lives though its main thread has ended; a thread stands in for it then.
pub fn look(pid: i32) -> bool {
    let ended = |tid: i32| Stat::of(pid, tid).map_or(true, |stat| stat.is_exiting());
    let known = of(pid);
    if known != pid && !ended(known) {
        return true;
    }
    let is_zombie = Stat::of(pid, pid).is_ok_and(|stat| stat.state == 'Z');
    let tids = if is_zombie { threads::list(pid).unwrap_or_default() } else { Vec::new() };
    let living = tids.into_iter().find(|tid| *tid != pid && !ended(*tid));
    if let Ok(mut known) = KNOWN.write() {
        match living {
            Some(tid) => known.insert(pid, tid),
            None => known.remove(&pid),
        };
        ANY.store(!known.is_empty(), Ordering::Release);
    }
    living.is_some()
}
