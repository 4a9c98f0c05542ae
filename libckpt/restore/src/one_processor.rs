//! A restore goes back and forth between this thread and those that it makes, hundreds of times. On one processor that is a switch from one to the other; on two,
//! each time the one wakes that the other has left idle, which takes several times as long.
use crate::error::RestoreResult;
use ckpt_sys::sched;
use std::cell::RefCell;

/// The calling thread, for [`sched`].
const OWN: i32 = 0;

thread_local! {
    /// Where this thread might run before.
    static BEFORE: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// As long as there is one, this thread and those that it makes run on the processor that it was on. Each of them must be told in the end where it may run.
#[derive(Debug)]
pub(crate) struct OneProcessor(());

impl OneProcessor {
    /// Stays here. Where that is not permitted it goes slower.
    pub(crate) fn stay() -> Self {
        let stay = || -> RestoreResult<()> {
            let before = sched::affinity(OWN)?;
            sched::set_affinity(OWN, &only(sched::current_cpu(), before.len()))?;
            BEFORE.replace(Some(before));
            Ok(())
        };
        if let Err(error) = stay() {
            tracing::debug!(%error, "restoring on all processors");
        }
        Self(())
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        if let Some(before) = BEFORE.take() {
            set(&before);
        }
    }
}

/// Does `work` on all processors that this thread had before.
pub(crate) fn on_all<T>(work: impl FnOnce() -> T) -> T {
    let Some(before) = BEFORE.take() else { return work() };
    set(&before);
    let done = work();
    set(&only(sched::current_cpu(), before.len()));
    BEFORE.replace(Some(before));
    done
}

/// Lets `tid` run wherever this thread might before.
pub(crate) fn let_run_anywhere(tid: i32) -> RestoreResult<()> {
    BEFORE.with_borrow(|before| match before {
        Some(before) => Ok(sched::set_affinity(tid, before)?),
        None => Ok(()),
    })
}

fn set(mask: &[u8]) {
    if let Err(error) = sched::set_affinity(OWN, mask) {
        tracing::debug!(%error, "the processors of the restoring process");
    }
}

/// The mask of `len` bytes of one processor.
fn only(cpu: usize, len: usize) -> Vec<u8> {
    let mut mask = vec![0; len.max(cpu / 8 + 1)];
    mask[cpu / 8] |= 1 << (cpu % 8);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_guard() {
        let before = sched::affinity(OWN).unwrap();
        let count = |mask: &[u8]| mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
        {
            let _one = OneProcessor::stay();
            assert_eq!(count(&sched::affinity(OWN).unwrap()), 1);
            assert_eq!(on_all(|| sched::affinity(OWN).unwrap()), before);
            assert_eq!(count(&sched::affinity(OWN).unwrap()), 1);
            let_run_anywhere(OWN).unwrap();
            assert_eq!(sched::affinity(OWN).unwrap(), before);
        }
        assert_eq!(sched::affinity(OWN).unwrap(), before);
    }
}
