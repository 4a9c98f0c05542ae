//! Processes of a test: started, watched and ended by their own pid.
use crate::pty::Pty;
use crate::tree;
use crate::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A child process that is killed when the test lets go of it.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` in a session of its own, with /dev/null as standard input unless the command says otherwise.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        // SAFETY: setsid is async-signal-safe.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Process { child }
    }

    /// Starts `command` at a terminal: it leads a session, which has that for its controlling terminal.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_at(pty: &Pty, command: &mut Command) -> Self {
        let end = || Stdio::from(pty.slave().try_clone().expect("dup"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: setsid and ioctl are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            })
        };
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Process { child }
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Its exit status, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self) -> ExitStatus {
        until(&format!("process {} ends", self.pid()), || self.ended())
    }

    /// SIGKILL to it and all its descendants, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            tree::kill_descendants(self.pid());
        }
        self.kill_alone();
    }

    /// SIGKILL, and waits until it is gone. What it has started lives on.
    pub fn kill_alone(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal a child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process that a restore made: no child of the test. The next one restored may have the same pid, so it is known by its
/// start time, too.
#[derive(Debug)]
pub struct Restored {
    pid: i32,
    started: Option<u64>,
}

impl Restored {
    /// Takes charge of process `pid`.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        Restored { pid, started: start_time(pid) }
    }

    fn gone(&self) -> bool {
        let now = start_time(self.pid);
        now.is_none() || now != self.started
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until it ended by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_gone(&self) {
        until(&format!("restored process {} ends", self.pid), || self.gone().then_some(()));
    }

    /// SIGKILL to it and all its descendants, and waits until it is gone.
    pub fn kill(&self) {
        if !self.gone() {
            tree::kill_descendants(self.pid);
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
            self.wait_gone();
        }
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether there is no process `pid`, not even a zombie.
#[must_use]
pub fn gone(pid: i32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// When a process started, in clock ticks since boot; None when it is gone.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The one-letter state of a process or thread: `R`, `S`, `D`, `T`, `t`, `Z`…; None when it is gone.
#[must_use]
pub fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// How many threads of a process are in a state.
#[must_use]
pub fn threads_in_state(pid: i32, wanted: char) -> usize {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let tids = tasks.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    tids.filter(|&tid| state(tid) == Some(wanted)).count()
}
