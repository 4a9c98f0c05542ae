//! Reaps the daemon's children: workers, keepers of restored jobs, and jobs that became its children when their keeper was killed.
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

type Waiting = Rc<RefCell<HashMap<i32, oneshot::Sender<WaitStatus>>>>;

/// Whoever waits for a child's end.
pub(super) struct Reaper {
    waiting: Waiting,
}

impl Reaper {
    /// Starts to reap.
    pub(super) fn start() -> std::io::Result<Self> {
        let mut ended = signal(SignalKind::child())?;
        let waiting = Waiting::default();
        let reaper = Self { waiting: Rc::clone(&waiting) };
        tokio::task::spawn_local(async move {
            loop {
                reap(&waiting);
                if ended.recv().await.is_none() {
                    break;
                }
            }
        });
        Ok(reaper)
    }

    /// How the child ends. To be called before the first await after it was spawned.
    pub(super) fn ended(&self, pid: i32) -> oneshot::Receiver<WaitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid, sender);
        receiver
    }
}

fn reap(waiting: &Waiting) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(status) => {
                if let Some(sender) = status.pid().and_then(|pid| waiting.borrow_mut().remove(&pid.as_raw()))
                {
                    // Whoever waited may have gone away.
                    let _ = sender.send(status);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::error!("cannot reap children: {errno}");
                return;
            }
        }
    }
}
