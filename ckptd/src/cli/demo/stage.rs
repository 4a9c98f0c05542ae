//! What the demonstration stands on: a directory with a store, a daemon and a program of its own, all gone afterwards.
use crate::failure::{Failure, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use std::fmt::{self, Display};
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program.
const COUNTER: &str = include_str!("counter.pl");
/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the program says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Rounds done.
    pub(super) count: u64,
    /// Sum over its memory.
    pub(super) sum: u64,
    /// When, and as which process, it was started.
    pub(super) started: String,
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}, memory adds up to {}", self.count, self.sum)
    }
}

/// See the module.
pub(super) struct Stage {
    dir: PathBuf,
    ckpt: PathBuf,
    daemon: Option<Child>,
    /// The program as it was started; restored copies have keepers for parents.
    child: Option<Child>,
    pid: i32,
}

impl Stage {
    /// Makes the directory and starts the daemon.
    pub(super) fn set() -> Outcome<Self> {
        let template = std::env::temp_dir().join("ckpt-demo-XXXXXX");
        let dir = nix::unistd::mkdtemp(&template).map_err(|errno| {
            Failure::new(format!("cannot make a directory like {}: {errno}", template.display()))
        })?;
        let ckpt = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot find the ckpt command itself: {error}")))?;
        let mut stage = Self { dir, ckpt, daemon: None, child: None, pid: 0 };
        let log = fs::File::create(stage.dir.join("daemon.log"))
            .map_err(|error| stage.broken("the log", &error))?;
        let daemon = stage
            .command(&["daemon"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| stage.broken("the daemon", &error))?;
        stage.daemon = Some(daemon);
        stage.wait_for_daemon()?;
        Ok(stage)
    }

    fn wait_for_daemon(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.listens() {
            let ended = self.daemon.as_mut().is_none_or(|daemon| !matches!(daemon.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default();
                let line = log.lines().next().unwrap_or("it does not listen");
                return Err(Failure::new(format!(
                    "the daemon: {}",
                    line.strip_prefix("ckpt: ").unwrap_or(line)
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn listens(&self) -> bool {
        let Ok(entries) = fs::read_dir(self.dir.join("run")) else { return false };
        entries.flatten().any(|entry| {
            entry.path().extension() == Some("sock".as_ref()) && UnixStream::connect(entry.path()).is_ok()
        })
    }

    /// Starts the program.
    pub(super) fn start_program(&mut self) -> Outcome<()> {
        let script = self.dir.join("counter.pl");
        fs::write(&script, COUNTER).map_err(|error| self.broken("the program's script", &error))?;
        let mut command = Command::new("perl");
        // What this terminal's programs have open, and with whom, is not the program's affair.
        // SAFETY: close_range(2) touches no memory, and is safe after fork.
        unsafe {
            command.pre_exec(|| {
                match libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        let child = command
            .arg(&script)
            .arg(self.state_file())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                self.broken("perl", &error).remedy("perl is part of every Debian: apt install perl-base")
            })?;
        self.pid = i32::try_from(child.id()).map_err(|error| Failure::new(error.to_string()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The program's pid.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the program is further than `before`, and says how far.
    pub(super) fn state_after(&mut self, before: &State) -> Outcome<State> {
        let enough = before.count + 10;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(state) = self.state().filter(|state| state.count >= enough) {
                return Ok(state);
            }
            if kill(Pid::from_raw(self.pid), None).is_err() || self.child_ended() {
                return Err(Failure::new("the program has ended by itself"));
            }
            if Instant::now() > deadline {
                return Err(Failure::new("the program does not get on"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes the program's file away, so that what it says next is new.
    pub(super) fn forget_state(&self) -> Outcome<()> {
        // Emptied, not removed: a checkpoint may have been taken while the program had it open.
        fs::write(self.state_file(), "").map_err(|error| self.broken("the program's file", &error))
    }

    /// Kills the program and waits until its pid is free.
    pub(super) fn kill_program(&mut self) -> Outcome<()> {
        let pid = Pid::from_raw(self.pid);
        kill(pid, Signal::SIGKILL)
            .map_err(|errno| Failure::new(format!("cannot kill pid {pid}: {errno}")))?;
        if let Some(mut child) = self.child.take() {
            child.wait().map_err(|error| Failure::new(format!("cannot wait for pid {pid}: {error}")))?;
        }
        self.pid = 0;
        let deadline = Instant::now() + PATIENCE;
        while kill(pid, None).is_ok() {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("pid {pid} was killed and does not go away")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Restores a checkpoint; gives the pid.
    pub(super) fn restore(&mut self, id: &str) -> Outcome<i32> {
        let output = self.ckpt(&["restore", "--detach", id])?;
        self.pid = output
            .trim()
            .parse()
            .map_err(|_| Failure::new(format!("ckpt restore printed {output:?} instead of a pid")))?;
        Ok(self.pid)
    }

    /// Runs a ckpt command; gives what it prints.
    pub(super) fn ckpt(&self, arguments: &[&str]) -> Outcome<String> {
        let output = self
            .command(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.broken("the ckpt command", &error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.trim();
        Err(Failure::new(text.strip_prefix("ckpt: ").unwrap_or(text))
            .remedy("`ckpt check` tells what is missing here"))
    }

    /// The same for one that prints JSON.
    pub(super) fn ckpt_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Outcome<T> {
        let output = self.ckpt(arguments)?;
        serde_json::from_str(&output).map_err(|error| Failure::new(format!("{error} in {output:?}")))
    }

    /// Bytes that the store takes.
    pub(super) fn store_size(&self) -> u64 {
        size(&self.store())
    }

    /// Ends and removes everything.
    pub(super) fn strike(mut self) -> Outcome<()> {
        self.clean_up();
        if self.dir.exists() {
            return Err(Failure::new(format!("cannot remove {}", self.dir.display())));
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ckpt);
        command
            .args(arguments)
            .env("CKPT_STORE", self.store())
            .env("CKPT_RUNTIME_DIR", self.dir.join("run"))
            .env_remove("LD_PRELOAD");
        command
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn state_file(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn state(&self) -> Option<State> {
        let text = fs::read_to_string(self.state_file()).ok().filter(|text| text.ends_with('\n'))?;
        let mut words = text.split_whitespace();
        Some(State {
            count: words.next()?.parse().ok()?,
            sum: words.next()?.parse().ok()?,
            started: words.next()?.into(),
        })
    }

    fn child_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn broken(&self, what: &str, error: &std::io::Error) -> Failure {
        Failure::new(format!("{what}: {error}"))
    }

    fn clean_up(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        } else if self.pid > 0 {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
        self.pid = 0;
        if let Some(mut daemon) = self.daemon.take() {
            if let Ok(pid) = i32::try_from(daemon.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let _ = daemon.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clean_up();
    }
}

fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
