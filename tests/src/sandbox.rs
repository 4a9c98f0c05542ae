//! What a test has for itself.
use crate::ckpt::Ran;
use crate::process::{Process, Restored};
use crate::target_dir;
use crate::wait::until;
use serde_json::Value;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a test has for itself: a directory, a store in it, and a daemon.
#[derive(Debug)]
pub struct Sandbox {
    // Before the directory, so that the daemon is gone when that is removed.
    daemon: RefCell<Option<Process>>,
    dir: tempfile::TempDir,
    effort: &'static str,
}

impl Sandbox {
    /// A fresh one. Tests get theirs from [`crate::isolated`].
    ///
    /// # Panics
    /// When its directories cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "directories are made")]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ckpt-test-").tempdir().expect("temporary directory");
        // Programs of other users must be able to reach their own directories within it.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("permissions");
        let sandbox = Sandbox { daemon: RefCell::new(None), dir, effort: "full" };
        std::fs::create_dir(sandbox.store()).expect("store directory");
        std::fs::create_dir(sandbox.runtime()).expect("runtime directory");
        sandbox
    }

    /// The same with another `CKPT_EFFORT` than `full`, with which images do not depend on what else the machine does.
    #[must_use]
    pub fn with_effort(mut self, effort: &'static str) -> Self {
        self.effort = effort;
        self
    }

    /// The test's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.dir().join("store")
    }

    /// Where the daemon's socket is.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// Sets the environment that makes ckpt use this sandbox.
    pub fn configure(&self, command: &mut Command) {
        command
            .env("CKPT_STORE", self.store())
            .env("CKPT_RUNTIME_DIR", self.runtime())
            .env("CKPT_EFFORT", self.effort)
            .env_remove("CKPT_NAME");
    }

    /// The `ckpt` command with this sandbox's store and daemon, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(target_dir().join("ckpt"));
        self.configure(&mut command);
        command.args(args);
        command
    }

    /// Runs `ckpt ARGS` to its end; starts the daemon first when there is none.
    pub fn ckpt<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        // A command that the test has started may have started one.
        if self.daemon.borrow().is_none() && !self.listens() {
            self.start_daemon(&[]);
        }
        Ran::of(&mut self.command(args))
    }

    /// Starts the daemon with these variables in its environment, and waits until it listens.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start_daemon(&self, environment: &[(&str, &str)]) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.daemon_log()).expect("daemon log");
        let mut command = self.command(["daemon"]);
        command.envs(environment.iter().copied());
        command.stdout(log.try_clone().expect("dup")).stderr(log);
        let mut daemon = Process::start(&mut command);
        until("the daemon listens", || {
            if let Some(status) = daemon.ended() {
                panic!("ckpt daemon: {status}: {}", self.log());
            }
            self.listens().then_some(())
        });
        *self.daemon.borrow_mut() = Some(daemon);
    }

    fn listens(&self) -> bool {
        let Some(socket) = self.socket() else { return false };
        std::os::unix::net::UnixStream::connect(socket).is_ok()
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.runtime()).ok()?;
        entries.flatten().find(|e| e.file_type().is_ok_and(|t| t.is_socket())).map(|e| e.path())
    }

    /// The daemon's pid, while the test runs one.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<i32> {
        self.daemon.borrow().as_ref().map(Process::pid)
    }

    /// Whether the daemon has ended by itself (or by a fault point).
    pub fn daemon_ended(&self) -> bool {
        self.daemon.borrow_mut().as_mut().is_none_or(|daemon| daemon.ended().is_some())
    }

    /// SIGKILL for the daemon. The next command starts another.
    pub fn kill_daemon(&self) {
        if let Some(mut daemon) = self.daemon.borrow_mut().take() {
            daemon.kill_alone();
        }
    }

    fn daemon_log(&self) -> PathBuf {
        self.dir().join("daemon.log")
    }

    /// What the daemon wrote.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.daemon_log()).unwrap_or_default()
    }

    /// `ckpt attach PID --name JOB`.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn attach(&self, pid: i32, job: &str) {
        self.ckpt(["attach", &pid.to_string(), "--name", job]).done();
    }

    /// `ckpt save JOB` with more arguments: what `--json` prints.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn save_with(&self, job: &str, args: &[&str]) -> Value {
        self.ckpt(["save", job, "--json"].iter().chain(args)).json()
    }

    /// `ckpt save JOB`: the checkpoint's id.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn save(&self, job: &str) -> String {
        id(&self.save_with(job, &[]))
    }

    /// `ckpt restore ID --detach`: the process, under the pid that it had.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn restore(&self, id: &str) -> Restored {
        self.restore_with(id, &[])
    }

    /// `ckpt restore ID --detach --lazy`.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn restore_lazily(&self, id: &str) -> Restored {
        self.restore_with(id, &["--lazy"])
    }

    #[track_caller]
    fn restore_with(&self, id: &str, args: &[&str]) -> Restored {
        let stdout = self.ckpt(["restore", id, "--detach"].iter().chain(args)).done();
        Restored::new(stdout.parse().unwrap_or_else(|_| panic!("no pid: {stdout}")))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}

/// The checkpoint's id in what `save --json` prints.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn id(saved: &Value) -> String {
    saved["id"].as_str().unwrap_or_else(|| panic!("no id: {saved}")).to_owned()
}
