//! Whose turn it is where there are more threads to run than processors: while the job stands still, nothing else on the machine matters to it, and each would keep
//! it waiting.
use ckpt_sys::{SysResult, sched};

/// The least nice of setpriority(2).
const LEAST: i32 = -20;

/// As long as there is one, this thread and those that it makes go before others, where that is permitted.
#[derive(Debug)]
pub(crate) struct Urgent {
    /// The niceness that this thread had.
    own: Option<i32>,
    /// The niceness that its session had.
    session: Option<i32>,
}

impl Urgent {
    /// Goes before others from now on.
    pub(crate) fn begin() -> Self {
        let begin = || -> SysResult<i32> {
            let before = sched::niceness()?;
            sched::set_niceness(LEAST)?;
            Ok(before)
        };
        let own = begin().inspect_err(|error| tracing::debug!(%error, "the pause takes its turn")).ok();
        let session = sched::session_niceness().filter(|_| set_session(LEAST));
        Self { own, session }
    }
}

fn set_session(nice: i32) -> bool {
    sched::set_session_niceness(nice)
        .inspect_err(|error| tracing::debug!(%error, "the turn of this session is that of others"))
        .is_ok()
}

impl Drop for Urgent {
    fn drop(&mut self) {
        self.session.map(set_session);
        if let Some(Err(error)) = self.own.map(sched::set_niceness) {
            tracing::debug!(%error, "what follows the pause is as urgent as that");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_with_its_guard() {
        let before = (sched::niceness().unwrap(), sched::session_niceness());
        let urgent = Urgent::begin();
        let during = sched::niceness().unwrap();
        let inherited = std::thread::spawn(|| sched::niceness().unwrap()).join().unwrap();
        // Without privilege it stays as nice as it was.
        assert!(during == LEAST || during == before.0, "{during}");
        assert_eq!(inherited, during);
        drop(urgent);
        assert_eq!((sched::niceness().unwrap(), sched::session_niceness()), before);
    }
}
