//! The program that is measured, and what it tells of itself.
use crate::measure::figure;
use ckpt_tests::process::Process;
use ckpt_tests::target_dir;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What is measured: how much of everything the program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Memory, MiB.
    pub(crate) mib: u64,
    /// Of it, permille that are written a second.
    pub(crate) dirty: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Descriptors.
    pub(crate) fds: u64,
}

/// The program at work.
pub(crate) struct Subject {
    /// While it is the one that was started here.
    pub(crate) process: Process,
    told: Told,
}

/// The file in which the program tells.
pub(crate) struct Told(File);

const PAGE: usize = 4096;
const BEATS: u64 = 0;
const LONGEST: u64 = 8;
const FORGET: u64 = 16;
const READY: u64 = 24;
const MEMORY: u64 = 32;

impl Told {
    fn get(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, at).expect("the program's file");
        u64::from_ne_bytes(word)
    }

    /// Polls until a word changes, or is what it should be.
    fn until(&self, at: u64, right: impl Fn(u64) -> bool) {
        let begin = Instant::now();
        while !right(self.get(at)) {
            assert!(begin.elapsed() < Duration::from_secs(600), "the program does not go on");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Starts to look for the longest pause anew.
    pub(crate) fn forget(&self) {
        self.0.write_all_at(&1u64.to_ne_bytes(), FORGET).expect("the program's file");
        self.until(FORGET, |word| word == 0);
    }

    /// The longest time between two beats since [`Told::forget`]; the beat that ends a pause is waited for.
    pub(crate) fn longest(&self) -> Duration {
        self.go_on();
        Duration::from_nanos(self.get(LONGEST))
    }

    /// Waits for the program's next beats.
    pub(crate) fn go_on(&self) {
        let beats = self.get(BEATS);
        self.until(BEATS, |now| now > beats + 2);
    }

    /// How often it has beaten.
    pub(crate) fn beats(&self) -> u64 {
        self.get(BEATS)
    }
}

impl Subject {
    /// Starts it, by itself or by `launcher`, and waits until all its memory is there.
    pub(crate) fn start(dir: &Path, shape: Shape, launcher: &[&str]) -> Self {
        let file = dir.join("told");
        let _ = std::fs::remove_file(&file);
        let numbers = [shape.mib, shape.dirty, shape.threads, shape.fds].map(|number| number.to_string());
        let program = compiled("beat");
        let mut words = launcher.iter().map(|word| (*word).into()).collect::<Vec<std::ffi::OsString>>();
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(&file).args(numbers).current_dir(dir);
        let log = File::create(dir.join("log")).expect("log");
        command.stdout(log.try_clone().expect("dup")).stderr(log);
        let process = Process::start(&mut command);
        let begin = Instant::now();
        let told = loop {
            if let Ok(file) = File::options().read(true).write(true).open(&file)
                && file.metadata().is_ok_and(|data| data.len() > MEMORY)
            {
                break Told(file);
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the program does not start");
            std::thread::sleep(Duration::from_millis(1));
        };
        told.until(READY, |ready| ready == 1);
        Self { process, told }
    }

    /// What it tells.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// What a page of its memory takes when it is compressed with `zstd -1`, bytes.
    pub(crate) fn compressed_page(&self) -> f64 {
        let mut sample = vec![0; 16 << 20];
        let memory = File::open(format!("/proc/{}/mem", self.process.pid())).expect("the program's memory");
        memory.read_exact_at(&mut sample, self.told.get(MEMORY)).expect("the program's memory");
        let compressed = zstd::bulk::compress(&sample, 1).expect("compression");
        let count = |count: usize| figure(u64::try_from(count).unwrap_or(0));
        count(compressed.len()) / count(sample.len() / PAGE)
    }
}

/// A C program of this folder, compiled.
pub(crate) fn compiled(name: &str) -> PathBuf {
    let built = target_dir().join(name);
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bench")).join(name).with_extension("c");
    let gcc = Command::new("gcc")
        .args(["-std=gnu17", "-O2", "-Wall", "-pthread", "-o"])
        .arg(&built)
        .arg(source)
        .status()
        .expect("gcc; ci/setup installs it");
    assert!(gcc.success(), "{name}.c does not compile");
    built
}
