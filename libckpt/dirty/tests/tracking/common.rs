//! A stopped process that the tests map and write memory in.
use ckpt_dirty::Tracker;
use ckpt_sys::RemoteAddr;
use ckpt_sys::inject::Injector;
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::ptrace::{self, Stop};
use nix::errno::Errno;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
pub(crate) const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// A child process, killed at the end of the test.
pub(crate) struct Target(pub(crate) Child);

impl Target {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Waits until it runs `program` and sleeps in system call `nr`.
    pub(crate) fn wait_in(&self, program: &str, nr: i64) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let proc = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap();
        while proc("comm").trim() != program || !proc("syscall").starts_with(&format!("{nr} ")) {
            assert!(std::time::Instant::now() < deadline, "it runs {}", proc("comm"));
            std::thread::yield_now();
        }
    }

    pub(crate) fn stop(&self) -> ProcessMemory {
        ptrace::seize(self.pid(), ptrace::O_SYSGOOD).unwrap();
        ptrace::interrupt(self.pid()).unwrap();
        assert_eq!(ptrace::wait_at_most(self.pid(), Duration::from_secs(10)).unwrap(), Some(Stop::Event));
        ProcessMemory::open(self.pid()).unwrap()
    }

    /// A line of /proc/PID/status, kB or a number.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_ascii_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `test` with a stopped process and a tracker that is attached to it.
pub(crate) fn with_target(test: impl FnOnce(&Target, &mut Remote<'_>, &mut Tracker)) {
    let target = Target::spawn(Command::new("sleep").arg("1000"));
    target.wait_in("sleep", libc::SYS_clock_nanosleep);
    let memory = target.stop();
    let mut remote = Remote(Injector::new(target.pid(), target.pid(), &memory).unwrap());
    let mut tracker = Tracker::new(target.pid());
    tracker.begin().unwrap();
    assert!(!tracker.is_attached());
    let fds = target.fds();
    tracker.attach(&mut remote.0).unwrap();
    assert!(tracker.is_attached(), "no userfaultfd with WP_ASYNC on this machine");
    assert_eq!(target.fds(), fds, "the target keeps no descriptor");
    test(&target, &mut remote, &mut tracker);
    remote.0.finish().unwrap();
}

/// System calls in the target.
pub(crate) struct Remote<'m>(pub(crate) Injector<'m>);

fn word(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

impl Remote<'_> {
    pub(crate) fn try_call(&mut self, nr: i64, args: &[u64]) -> Result<u64, Errno> {
        self.0.syscall(nr, args).unwrap()
    }

    pub(crate) fn call(&mut self, nr: i64, args: &[u64]) -> u64 {
        self.try_call(nr, args).unwrap()
    }

    pub(crate) fn mmap(&mut self, bytes: u64, prot: i32, flags: i32) -> Range<u64> {
        let start = self.call(libc::SYS_mmap, &[0, bytes, word(prot), word(flags), u64::MAX, 0]);
        start..start + bytes
    }

    pub(crate) fn madvise(&mut self, range: Range<u64>, advice: i32) {
        self.call(libc::SYS_madvise, &[range.start, range.end - range.start, word(advice)]);
    }

    /// The target writes to these pages itself.
    pub(crate) fn write(&mut self, pages: Range<u64>) {
        for page in (pages.start..pages.end).step_by(4096) {
            // Up to 256 bytes come whole.
            assert_eq!(self.call(libc::SYS_getrandom, &[page + 8, 64, 0]), 64);
        }
    }

    /// We write to one page of it.
    pub(crate) fn poke(&mut self, page: u64) {
        self.0.memory().write(RemoteAddr::new(page), b"poke").unwrap();
    }
}

/// Pages `first..end` of `range`.
pub(crate) fn pages(range: &Range<u64>, first: u64, end: u64) -> Range<u64> {
    range.start + first * PAGE..range.start + end * PAGE
}
