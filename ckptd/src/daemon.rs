//! ckptd: the registry and scheduler of one store's jobs.
//!
//! It holds each job's userfaultfds between checkpoints, and nothing else that a job would miss: when it dies, the
//! kernel closes them, the jobs run on untracked, and the next daemon adopts them again. It never traces a process
//! itself; each capture is done by a worker process of its own, so that the tracer survives the daemon.
mod adopt;
mod background;
mod job;
mod lender;
mod lock;
mod maintain;
mod processors;
mod reaper;
mod register;
mod save;
mod serve;
mod spare;
mod worker;

use crate::effort::EffortChoice;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Outcome};
use crate::memory::Memory;
use ckpt_image::Store;
use job::Job;
use lender::Lender;
use nix::sys::signal::SigSet;
use processors::Processors;
use reaper::Reaper;
use spare::Spare;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// A daemon that was started for a command ends when it has had nothing to do for this long.
const IDLE: Duration = Duration::from_secs(60);
/// How long a daemon that was told to end waits for checkpoints under way.
const LAST_WORKERS: Duration = Duration::from_secs(60);

/// What each save may spend.
#[derive(Debug)]
pub(crate) struct Spends {
    /// None: as much memory as is to be had then allows.
    pub(crate) memory: Option<Memory>,
    /// What is spent on small images.
    pub(crate) effort: EffortChoice,
}

/// State of the daemon. Single-threaded: no borrow of a cell is held across an await.
struct Daemon {
    store: PathBuf,
    /// Of each save; None: as much as is to be had then allows.
    memory: Option<Memory>,
    effort: EffortChoice,
    processors: Processors,
    lender: Lender,
    endpoint: Endpoint,
    jobs: RefCell<Vec<Rc<Job>>>,
    reaper: Reaper,
    spare: Spare,
    tickets: RefCell<HashMap<u64, save::Ticket>>,
    last_ticket: Cell<u64>,
    /// Connections and checkpoints under way.
    busy: Cell<usize>,
}

/// Runs the daemon of `store` until SIGTERM or SIGINT; in the background also until it has long been idle.
pub(crate) fn run(store: PathBuf, background: bool, spends: Spends) -> Outcome<()> {
    if background {
        background::close_inherited();
    }
    // Whoever starts a daemon may have blocked signals for itself.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|error| Failure::new(format!("cannot unblock signals: {error}")))?;
    Store::open_or_create(&store)?;
    let store = store
        .canonicalize()
        .map_err(|error| Failure::new(format!("{}: cannot use this store: {error}", store.display())))?;
    let endpoint = Endpoint::of_store(&store);
    endpoint.prepare_dir()?;
    let lock = match lock::take(&endpoint, background)? {
        lock::Taken::Ours(lock) => lock,
        lock::Taken::Served => return Ok(()),
    };
    let _workers = lock::workers(&endpoint)?;
    let socket = endpoint.socket();
    let listen = |error: io::Error| Failure::new(format!("cannot listen on {}: {error}", socket.display()));
    let listener = endpoint.listen().map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    if background {
        background::detach(&endpoint.log())?;
    }
    crate::logging::start_daemon();
    lock.write_pid()?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|error| Failure::new(format!("cannot become a child subreaper: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the event loop: {error}")))?;
    let outcome = tokio::task::LocalSet::new()
        .block_on(&runtime, serve_all((store, spends), endpoint, listener, background));
    drop(lock);
    outcome
}

async fn serve_all(
    (store, Spends { memory, effort }): (PathBuf, Spends),
    endpoint: Endpoint,
    listener: StdListener,
    background: bool,
) -> Outcome<()> {
    let fail = |what: &'static str| move |error: io::Error| Failure::new(format!("cannot {what}: {error}"));
    let listener = UnixListener::from_std(listener).map_err(fail("listen"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail("handle SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail("handle SIGINT"))?;
    let daemon = Rc::new(Daemon {
        store,
        memory,
        effort,
        processors: Processors::default(),
        lender: Lender::default(),
        endpoint,
        jobs: RefCell::default(),
        reaper: Reaper::start().map_err(fail("handle SIGCHLD"))?,
        spare: Spare::default(),
        tickets: RefCell::default(),
        last_ticket: Cell::new(adopt::first_ticket()),
        busy: Cell::new(0),
    });
    tracing::info!(store = %daemon.store.display(), socket = %daemon.endpoint.socket().display(), "ckptd runs");
    crate::tickets::forget(&daemon.endpoint, None);
    daemon.adopt();
    let mut check = interval(Duration::from_secs(5));
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_busy = Instant::now();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let daemon = Rc::clone(&daemon);
                    tokio::task::spawn_local(async move {
                        let _busy = daemon.work();
                        daemon.serve(socket).await;
                    });
                }
                Err(error) => {
                    // Out of descriptors, as a rule: waiting is all that helps, and must not spin.
                    tracing::error!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = check.tick() => {
                daemon.lender.forget();
                if daemon.busy.get() == 0 && !daemon.jobs.borrow().is_empty() {
                    daemon.make_spare();
                }
                if daemon.busy.get() > 0 || !daemon.jobs.borrow().is_empty() {
                    last_busy = Instant::now();
                } else if background && last_busy.elapsed() > IDLE {
                    tracing::info!("nothing to do");
                    break;
                }
            }
        }
    }
    daemon.spare.dismiss();
    let _ = std::fs::remove_file(daemon.endpoint.socket());
    drop(listener);
    let deadline = Instant::now() + LAST_WORKERS;
    while daemon.busy.get() > 0 && Instant::now() < deadline {
        sleep_until(Instant::now() + Duration::from_millis(10)).await;
    }
    daemon.persist();
    tracing::info!("ckptd ends; {} jobs run on", daemon.jobs.borrow().len());
    Ok(())
}

impl Daemon {
    /// Counts a piece of work as under way until the guard is dropped.
    fn work(self: &Rc<Self>) -> Work {
        self.busy.set(self.busy.get() + 1);
        Work(Rc::clone(self))
    }
}

/// See [`Daemon::work`].
struct Work(Rc<Daemon>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}
