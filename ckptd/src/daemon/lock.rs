//! One daemon a store: a lock on the pid file. And none beside the workers of a killed one: a lock that workers inherit.
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Outcome};
use ckpt_sys::proc::stat::Stat;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a daemon that is starting or ending is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lock, held until it is dropped or the process ends.
pub(super) struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

/// The outcome of [`take`].
pub(super) enum Taken {
    /// This process is the store's daemon.
    Ours(Lock),
    /// Another one is, and it serves.
    Served,
}

/// Takes the lock. When another daemon has it: with `wait`, waits until that one serves or is gone.
pub(super) fn take(endpoint: &Endpoint, wait: bool) -> Outcome<Taken> {
    let path = endpoint.pid_file();
    let fail =
        |error: io::Error| Failure::new(format!("cannot lock the pid file {}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(fail)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => return Ok(Taken::Ours(Lock { file, path })),
            Err((unlocked, Errno::EWOULDBLOCK)) => file = unlocked,
            Err((_, errno)) => return Err(fail(errno.into())),
        }
        if wait && endpoint.connect().is_ok() {
            return Ok(Taken::Served);
        }
        let pid = std::fs::read_to_string(&path).unwrap_or_default();
        // One that was killed as it started a worker is held for a moment by what is to become that.
        let lives = |pid: i32| Stat::of(pid, pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'));
        let is_held = !wait && pid.trim().parse().map_or(true, lives);
        if is_held || Instant::now() > deadline {
            let who = match pid.trim() {
                "" => "another ckptd".to_owned(),
                pid => format!("ckptd (pid {pid})"),
            };
            let state = if wait {
                "holds this store's lock but does not answer"
            } else {
                "serves this store already"
            };
            return Err(
                Failure::new(format!("{who} {state}")).remedy("end that one with SIGTERM; the jobs run on")
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Lock {
    /// Writes this process's pid into the file, for people and scripts.
    pub(super) fn write_pid(&self) -> Outcome<()> {
        let mut file: &File = &self.file;
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(|error| {
            Failure::new(format!("cannot write the pid file {}: {error}", self.path.display()))
        })
    }
}

/// How long the workers of a killed daemon are waited for.
const LAST_WORKERS: Duration = Duration::from_secs(60);

/// Waits until the workers of a killed daemon have ended what they began: a job that one of them saves cannot be saved by another.
/// Gives the lock that this daemon's workers inherit; it is free when the daemon and all of them are gone.
pub(super) fn workers(endpoint: &Endpoint) -> Outcome<Flock<File>> {
    let path = endpoint.workers();
    let fail = |error: io::Error| Failure::new(format!("cannot lock {}: {error}", path.display()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
    let deadline = Instant::now() + LAST_WORKERS;
    let lock = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err((unlocked, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = unlocked,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(Failure::new("a worker of an earlier ckptd is still at work")
                    .remedy("try again when it has ended"));
            }
            Err((_, errno)) => return Err(fail(errno.into())),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    fcntl(&*lock, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|errno| fail(errno.into()))?;
    Ok(lock)
}
