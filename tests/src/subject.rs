//! Subject programs: unmodified programs in C that set a kernel object up, wait, and check it from inside.
//!
//! A subject gets a directory as its first argument. It makes `ready` there when the object stands, polls for `go`,
//! checks, and writes `ok` or what was wrong to `verdict`.
use crate::Sandbox;
use crate::process::Process;
use crate::wait::until;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running subject.
#[derive(Debug)]
pub struct Subject {
    /// Its process; a restored copy is not this one.
    pub process: Process,
    dir: PathBuf,
}

impl Subject {
    /// Compiles `tests/subjects/NAME.c` if need be, starts it with `args` after its directory, and waits until it is ready.
    ///
    /// # Panics
    /// When it is not.
    pub fn start(sandbox: &Sandbox, name: &str, args: &[&str]) -> Self {
        let mut subject = Self::start_unready(sandbox, name, args);
        subject.wait_ready();
        subject
    }

    /// As [`Subject::start`], without waiting.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_unready(sandbox: &Sandbox, name: &str, args: &[&str]) -> Self {
        let dir = (0..)
            .map(|n| sandbox.dir().join(format!("{name}-{n}")))
            .find(|dir| fs::create_dir(dir).is_ok())
            .expect("a free name");
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).expect("log");
        let mut command = Command::new(compiled(name));
        command.arg(&dir).args(args).current_dir(&dir);
        command.stdout(log.try_clone().expect("dup")).stderr(log);
        Subject { process: Process::start(&mut command), dir }
    }

    /// Waits until it has made `ready`.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn wait_ready(&mut self) {
        until("the subject is ready", || {
            if let Some(status) = self.process.ended() {
                panic!("the subject ended, {status}: {} {}", self.log(), self.verdict().unwrap_or_default());
            }
            self.dir.join("ready").exists().then_some(())
        });
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its pid, which a restored copy has too.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What it is about but could not do on this machine: lines for whoever reads the test's output.
    #[must_use]
    pub fn not_exercised(&self) -> Vec<String> {
        self.log().lines().filter(|line| line.starts_with("not exercised: ")).map(str::to_owned).collect()
    }

    /// What it found, once it did.
    #[must_use]
    pub fn verdict(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("verdict")).ok()
    }

    /// Makes the file that it waits for.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn go(&self) {
        self.tell("go");
    }

    /// Lets it check itself, and asserts that it found nothing wrong.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn must_be_well(&self, which: &str) {
        self.copy_must_be_well(self.pid(), which);
    }

    /// As [`Subject::must_be_well`], of a copy that has another pid here.
    ///
    /// # Panics
    /// When it found something wrong.
    #[track_caller]
    pub fn copy_must_be_well(&self, pid: i32, which: &str) {
        self.go();
        assert_eq!(self.wait_for_verdict(pid, which), "ok", "verdict of the {which} subject");
    }

    #[track_caller]
    fn wait_for_verdict(&self, pid: i32, which: &str) -> String {
        until("the subject's verdict", || {
            // Before the verdict is looked for: it may end between.
            let gone = crate::process::gone(pid);
            let verdict = self.verdict();
            assert!(
                verdict.is_some() || !gone,
                "the {which} subject ended without a verdict: {}",
                self.log()
            );
            verdict
        })
    }

    /// Makes a file that it waits for.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn tell(&self, file: &str) {
        fs::write(self.dir.join(file), "").expect("a file for the subject");
    }

    /// Waits until it has made a file.
    ///
    /// # Panics
    /// When it ends without.
    #[track_caller]
    pub fn wait_for(&self, file: &str) {
        until(&format!("the subject makes {file}"), || {
            assert!(self.verdict().is_none(), "the subject ended: {}", self.verdict().unwrap_or_default());
            self.dir.join(file).exists().then_some(())
        });
    }

    /// Takes a file away, so that a restored copy makes it or waits for it again.
    pub fn forget(&self, file: &str) {
        let _ = fs::remove_file(self.dir.join(file));
    }

    /// Lets it check itself, and asserts what it found.
    ///
    /// # Panics
    /// When it found something else.
    #[track_caller]
    pub fn verdict_must_be(&self, wanted: &str) {
        self.go();
        assert_eq!(self.wait_for_verdict(self.pid(), "restored"), wanted, "verdict of the subject");
    }

    /// Restores checkpoints of it one after the other, each with the verdict that the copy must come to. It runs no more.
    ///
    /// # Panics
    /// When a copy finds something else.
    #[track_caller]
    pub fn must_come_back(
        &self,
        sandbox: &Sandbox,
        saved: impl IntoIterator<Item = (impl AsRef<str>, String)>,
    ) {
        for (id, verdict) in saved {
            self.reset();
            let restored = sandbox.restore(id.as_ref());
            self.verdict_must_be(&verdict);
            restored.wait_gone();
        }
    }

    /// Takes `go` and the verdict away, for a restored copy to be asked again.
    pub fn reset(&self) {
        let _ = fs::remove_file(self.dir.join("go"));
        let _ = fs::remove_file(self.dir.join("verdict"));
    }
}

/// The program made of `tests/subjects/NAME.c`; compiled again when a source is newer.
///
/// # Panics
/// When it does not compile.
#[must_use]
pub fn compiled(name: &str) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("subjects");
    let source = sources.join(format!("{name}.c"));
    let built = crate::target_dir().join("subjects").join(name);
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let newest = modified(&source).max(modified(&sources.join("subject.h")));
    if modified(&built) > newest {
        return built;
    }
    fs::create_dir_all(built.parent().expect("a parent")).expect("target/PROFILE/subjects");
    // One test compiles, the others wait: a program that is replaced while it runs has a deleted file.
    let lock = fs::File::create(built.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if modified(&built) > newest {
        return built;
    }
    // Under a name of its own, then renamed: other tests may run the older one now.
    let new = built.with_extension(format!("{}.new", boot_wide_id()));
    let gcc = Command::new("gcc")
        .args(["-std=gnu17", "-O1", "-g", "-Wall", "-Wno-format-truncation", "-pthread", "-o"])
        .args([&new, &source])
        .output()
        .expect("gcc; ci/setup installs it");
    assert!(gcc.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&gcc.stderr));
    fs::rename(&new, &built).expect("rename");
    built
}

/// A number that no other test has: pids are not unique, as each test has a PID namespace of its own.
fn boot_wide_id() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino())
}
