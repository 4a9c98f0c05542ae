//! The tools that are measured: ckpt, and CRIU and DMTCP where they are on PATH.
use crate::subject::{Shape, Subject};
use ckpt_tests::Sandbox;
use ckpt_tests::process::Restored;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One save.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saved {
    /// Time until the command had ended.
    pub(crate) took: Duration,
    /// What it left on disk.
    pub(crate) bytes: u64,
    /// Pages that had changed; None: the tool does not tell.
    pub(crate) dirty_pages: Option<u64>,
}

/// A tool that saves and restores a program.
pub(crate) trait Tool {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Starts the program so that the tool can save it.
    fn start(&mut self, dir: &Path, shape: Shape) -> Subject;

    /// Saves the running program, which runs on. None: the tool cannot do it.
    fn save(&mut self, subject: &Subject) -> Option<Saved>;

    /// Restores the last save of the program, which has been killed, and returns when the tool says that it is done. None: cannot.
    fn restore(&mut self) -> Option<Restored>;

    /// The same, with memory that comes as it is touched.
    fn restore_lazily(&mut self) -> Option<Restored> {
        None
    }
}

/// ckpt itself.
pub(crate) struct Ckpt<'a> {
    sandbox: &'a Sandbox,
    job: String,
    last: String,
    jobs: u32,
}

impl<'a> Ckpt<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox) -> Self {
        Self { sandbox, job: String::new(), last: String::new(), jobs: 0 }
    }
}

impl Tool for Ckpt<'_> {
    fn name(&self) -> &'static str {
        "ckpt"
    }

    fn start(&mut self, dir: &Path, shape: Shape) -> Subject {
        if !self.last.is_empty() {
            // What earlier measurements stored is not needed any more.
            let ids = self.sandbox.ckpt(["list", &self.job, "--json"]).done();
            for line in ids.lines().rev() {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                if let Some(id) = line["id"].as_str() {
                    let _ = self.sandbox.ckpt(["rm", id]);
                }
            }
        }
        self.jobs += 1;
        self.job = format!("beat-{}", self.jobs);
        let subject = Subject::start(dir, shape, &[]);
        self.sandbox.attach(subject.process.pid(), &self.job);
        subject
    }

    fn save(&mut self, _: &Subject) -> Option<Saved> {
        let begin = Instant::now();
        let saved = self.sandbox.save_with(&self.job, &[]);
        let took = begin.elapsed();
        self.last = ckpt_tests::sandbox::id(&saved);
        Some(Saved {
            took,
            bytes: saved["bytes_written"].as_u64()?,
            dirty_pages: saved["pages_dirty"].as_u64(),
        })
    }

    fn restore(&mut self) -> Option<Restored> {
        Some(self.sandbox.restore(&self.last))
    }

    fn restore_lazily(&mut self) -> Option<Restored> {
        Some(self.sandbox.restore_lazily(&self.last))
    }
}

/// `criu dump --leave-running`.
pub(crate) struct Criu {
    dir: PathBuf,
    dumps: u32,
}

impl Criu {
    /// None: it is not on PATH.
    pub(crate) fn find(dir: &Path) -> Option<Self> {
        let works = Command::new("criu").arg("check").stdout(Stdio::null()).stderr(Stdio::null()).status();
        works.is_ok_and(|status| status.success()).then(|| Self { dir: dir.join("criu"), dumps: 0 })
    }

    fn images(&self) -> PathBuf {
        self.dir.join(self.dumps.to_string())
    }
}

impl Tool for Criu {
    fn name(&self) -> &'static str {
        "criu"
    }

    fn start(&mut self, dir: &Path, shape: Shape) -> Subject {
        Subject::start(dir, shape, &[])
    }

    fn save(&mut self, subject: &Subject) -> Option<Saved> {
        let _ = std::fs::remove_dir_all(&self.dir);
        self.dumps += 1;
        std::fs::create_dir_all(self.images()).expect("directory");
        let begin = Instant::now();
        let status = Command::new("criu")
            .args(["dump", "--leave-running", "--shell-job", "-t", &subject.process.pid().to_string(), "-D"])
            .arg(self.images())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let took = begin.elapsed();
        status.is_ok_and(|status| status.success()).then(|| Saved {
            took,
            bytes: bytes_below(&self.images()),
            dirty_pages: None,
        })
    }

    fn restore(&mut self) -> Option<Restored> {
        let pidfile = self.dir.join("pid");
        let _ = std::fs::remove_file(&pidfile);
        let status = Command::new("criu")
            .args(["restore", "--restore-detached", "--shell-job", "-D"])
            .arg(self.images())
            .arg("--pidfile")
            .arg(&pidfile)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.ok().filter(std::process::ExitStatus::success)?;
        Some(Restored::new(std::fs::read_to_string(&pidfile).ok()?.trim().parse().ok()?))
    }
}

/// `dmtcp_launch` and its coordinator.
pub(crate) struct Dmtcp {
    dir: PathBuf,
}

const COORDINATOR: &str = "7779";

impl Dmtcp {
    /// None: it is not on PATH.
    pub(crate) fn find(dir: &Path) -> Option<Self> {
        let there = Command::new("dmtcp_launch")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        there.is_ok_and(|status| status.success()).then(|| Self { dir: dir.join("dmtcp") })
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(name);
        command.args(["--coord-port", COORDINATOR]).args(args);
        command.env("DMTCP_CHECKPOINT_DIR", &self.dir).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Tool for Dmtcp {
    fn name(&self) -> &'static str {
        "dmtcp"
    }

    fn start(&mut self, dir: &Path, shape: Shape) -> Subject {
        std::fs::create_dir_all(&self.dir).expect("directory");
        let images = self.dir.to_str().expect("text").to_owned();
        Subject::start(dir, shape, &["dmtcp_launch", "--coord-port", COORDINATOR, "--ckptdir", &images])
    }

    fn save(&mut self, _: &Subject) -> Option<Saved> {
        for image in std::fs::read_dir(&self.dir).ok()?.flatten() {
            let _ = std::fs::remove_file(image.path());
        }
        let begin = Instant::now();
        let status = self.command("dmtcp_command", &["--bcheckpoint"]).status();
        let took = begin.elapsed();
        status.is_ok_and(|status| status.success()).then(|| Saved {
            took,
            bytes: bytes_below(&self.dir),
            dirty_pages: None,
        })
    }

    fn restore(&mut self) -> Option<Restored> {
        // Its restart runs in the foreground, and is measured by the program's own beats only where that is the same for all: not here.
        None
    }
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}
