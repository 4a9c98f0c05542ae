//! Real programs: started as anybody starts them, watched through what they tell the world, saved, killed and brought back.
use crate::Sandbox;
use crate::process::{Process, Restored, gone};
use crate::wait::until;
use std::path::Path;
use std::process::Command;

/// A real program at work, as its user knows it.
///
/// Its state is a number that only grows: how far it has come. Whoever reads it checks everything else that the program
/// tells against it, so that no state but the right one passes.
pub trait Program {
    /// The job's name.
    fn job(&self) -> &'static str;

    /// Makes it work, or waits until it has gone on by itself.
    fn work(&mut self);

    /// How far it has come by all that it has told until now.
    fn state(&mut self) -> u64;

    /// How far it may have come at most, told or not.
    fn most(&mut self) -> u64 {
        self.state()
    }

    /// It is dead, its files are those of the moment to be restored: forgets what it told since.
    fn forget(&mut self) {}

    /// The first state that a restored one tells, which comes as it was at the checkpoint, `0` or `1` further.
    fn first_state(&mut self) -> u64 {
        self.state()
    }

    /// The directory of the files that it writes, if it does: then it is saved with `--stop`, so that they are those of the
    /// moment, and they are put back before that moment is restored.
    fn data_files(&self) -> Option<&Path> {
        None
    }
}

/// How many rounds a real program goes through: 10, or what `CKPT_TEST_ROUNDS` says.
#[must_use]
pub fn rounds() -> u32 {
    std::env::var("CKPT_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// A checkpoint, and between which states it was taken.
struct Moment {
    id: String,
    least: u64,
    most: u64,
    files: Vec<(std::path::PathBuf, Vec<u8>)>,
}

/// Who runs: the process that the test started, or one that a restore made.
enum Running {
    First(Process),
    Restored(Restored),
}

impl Running {
    fn kill(&mut self) {
        match self {
            Running::First(process) => process.kill(),
            Running::Restored(restored) => restored.kill(),
        }
    }

    fn wait_gone(&mut self) {
        match self {
            Running::First(process) => drop(process.wait()),
            Running::Restored(restored) => restored.wait_gone(),
        }
    }
}

/// Round after round: saved three times while it works, killed, restored from each of the three; each time it is where it was,
/// and goes on working. The next round is that of the last one restored. Returns it, still running.
///
/// # Panics
/// When anything of it does not hold.
pub fn survive_rounds(sandbox: &Sandbox, program: &mut dyn Program, process: Process) -> Restored {
    let pid = process.pid();
    let mut running = Running::First(process);
    for round in 1..=rounds() {
        let mut moments = Vec::new();
        for _ in 0..3 {
            program.work();
            let moment = save(sandbox, program, &mut running);
            if program.data_files().is_some() {
                running = restore(sandbox, program, &moment, pid, round);
            }
            moments.push(moment);
        }
        program.work();
        for moment in &moments {
            running.kill();
            running = restore(sandbox, program, moment, pid, round);
            program.work();
        }
    }
    match running {
        Running::Restored(restored) => restored,
        Running::First(_) => panic!("no rounds"),
    }
}

fn save(sandbox: &Sandbox, program: &mut dyn Program, running: &mut Running) -> Moment {
    let least = program.state();
    let dir = program.data_files().map(Path::to_owned);
    let id = if dir.is_some() {
        let id = sandbox.ckpt(["save", program.job(), "--stop"]).done();
        running.wait_gone();
        id
    } else {
        sandbox.save(program.job())
    };
    let most = program.most();
    Moment { id, least, most, files: dir.as_deref().map_or_else(Vec::new, read_files) }
}

fn restore(sandbox: &Sandbox, program: &mut dyn Program, moment: &Moment, pid: i32, round: u32) -> Running {
    put_back(&moment.files);
    program.forget();
    assert!(gone(pid), "the process still runs");
    // Its memory comes late every other time.
    let restored = if round.is_multiple_of(2) {
        sandbox.restore_lazily(&moment.id)
    } else {
        sandbox.restore(&moment.id)
    };
    assert_eq!(restored.pid(), pid, "the restored process's pid");
    let state = program.first_state();
    let (least, most) = (moment.least, moment.most + 1);
    assert!(
        (least..=most).contains(&state),
        "round {round}: {} was saved between states {least} and {most}, and came back in state {state}",
        moment.id
    );
    Running::Restored(restored)
}

/// The files of a directory, with their contents.
fn read_files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("data files").flatten() {
        if entry.path().is_dir() {
            files.extend(read_files(&entry.path()));
        } else {
            files.push((entry.path(), std::fs::read(entry.path()).expect("data file")));
        }
    }
    files
}

/// Puts the contents of files back, into the same inodes.
fn put_back(files: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, contents) in files {
        std::fs::write(path, contents).expect("data file");
    }
}

/// Starts a program in `dir` with its output in `dir/log`, protected by `LD_PRELOAD` when `preload` is said, else as it is.
///
/// # Panics
/// When it cannot be started.
pub fn start(sandbox: &Sandbox, dir: &Path, job: &str, command: &mut Command, preload: bool) -> Process {
    std::fs::create_dir_all(dir).expect("directory");
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).expect("log");
    command.current_dir(dir).stdout(log.try_clone().expect("dup")).stderr(log);
    if preload {
        sandbox.ckpt(["list"]).done();
        sandbox.configure(command);
        command.env("LD_PRELOAD", crate::target_dir().join("libckpt.so")).env("CKPT_NAME", job);
    }
    Process::start(command)
}

/// Steps that a program tells in a file, one line each: the number of the step, and a checksum of all that it computed.
#[derive(Debug)]
pub struct Steps {
    path: std::path::PathBuf,
    read: usize,
    first: u64,
    last: u64,
}

impl Steps {
    /// The steps told in this file.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Steps { path: path.to_owned(), read: 0, first: 0, last: 0 }
    }

    /// Reads what is new, and asserts that each step follows the one before and has the checksum that it must have.
    ///
    /// # Panics
    /// When one does not.
    pub fn last(&mut self, checksum: &mut dyn FnMut(u64) -> u64) -> u64 {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[self.read.min(whole)..whole].lines() {
            let (step, sum) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let (step, sum): (u64, u64) = (step.parse().expect("a step"), sum.parse().expect("a checksum"));
            assert!(self.last == 0 || step == self.last + 1, "step {step} after step {}", self.last);
            assert_eq!(sum, checksum(step), "the checksum of step {step}");
            self.first = if self.first == 0 { step } else { self.first };
            self.last = step;
        }
        self.read = whole;
        self.last
    }

    /// Waits until some steps have been told since now.
    ///
    /// # Panics
    /// When none are.
    pub fn go_on(&mut self, checksum: &mut dyn FnMut(u64) -> u64) {
        let from = self.last(checksum);
        until("the program's next steps", || (self.last(checksum) >= from + 2).then_some(()));
    }

    /// Waits for the first step told since [`Steps::forget`].
    ///
    /// # Panics
    /// When none is.
    pub fn first(&mut self, checksum: &mut dyn FnMut(u64) -> u64) -> u64 {
        until("the program's first step", || (self.last(checksum) > 0).then_some(()));
        self.first
    }

    /// Takes away what was told.
    pub fn forget(&mut self) {
        // The program may have had it open at the moment of the checkpoint, and finds it again by its name.
        std::fs::write(&self.path, "").expect("an empty file");
        (self.read, self.first, self.last) = (0, 0, 0);
    }
}
