//! One daemon a store: a lock on the pid file.
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Outcome};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
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
        if !wait || Instant::now() > deadline {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
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
