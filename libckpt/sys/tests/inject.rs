//! Remote system calls on real processes.
use ckpt_sys::inject::{self, Injector};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps;
use ckpt_sys::ptrace::{self, Stop};
use std::process::{Child, Command};
use std::time::Duration;

struct Target(Child);

impl Target {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stopped(program: &str, argument: &str) -> Target {
    let target = Target(Command::new(program).arg(argument).spawn().unwrap());
    let pid = target.pid();
    // It has exec'ed when it sleeps in a system call.
    while !std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap().starts_with("230 ") {
        std::thread::yield_now();
    }
    ptrace::seize(pid, ptrace::O_SYSGOOD).unwrap();
    ptrace::interrupt(pid).unwrap();
    assert_eq!(ptrace::wait_at_most(pid, Duration::from_secs(10)).unwrap(), Some(Stop::Event));
    target
}

#[test]
fn calls_run_in_the_target_and_leave_no_trace() {
    let target = stopped("sleep", "1000");
    let pid = target.pid();
    let memory = ProcessMemory::open(pid).unwrap();
    let before = (ptrace::gpr(pid).unwrap(), ptrace::sigmask(pid).unwrap(), maps::maps(pid).unwrap());
    let mut injector = Injector::new(pid, pid, &memory).unwrap();
    let answer = injector.syscall(libc::SYS_getpid, &[]).unwrap().unwrap();
    assert_eq!(answer, u64::from(target.0.id()));
    let path = injector.place_path(b"/nonexistent").unwrap();
    let outcome = injector.syscall(libc::SYS_chdir, &[path.get()]).unwrap();
    assert_eq!(outcome, Err(nix::errno::Errno::ENOENT));
    let begin = std::time::Instant::now();
    for _ in 0..1000 {
        injector.syscall(libc::SYS_getpid, &[]).unwrap().unwrap();
    }
    println!("{:?} a call", begin.elapsed() / 1000);
    for end in [None, inject::meaningless_signal(0)] {
        injector.end_batches_by(end);
        let begin = std::time::Instant::now();
        let mut batch = injector.batch();
        let missing = batch.reserve(16);
        let calls: Vec<_> = (0..500).map(|_| batch.call(libc::SYS_getpid, &[])).collect();
        let failing = batch.call(libc::SYS_chdir, &[missing.address()]);
        let (mask, old) = (batch.reserve(8), libc::SYS_rt_sigprocmask);
        let asked = batch.call(old, &[0, 0, mask.address(), 8]);
        let answers = injector.run(batch).unwrap();
        println!("{:?} a call of a batch that ends by {end:?}", begin.elapsed() / 500);
        assert!(calls.into_iter().all(|call| answers.outcome(call) == Ok(u64::from(target.0.id()))));
        assert_eq!(answers.outcome(failing), Err(nix::errno::Errno::ENOENT));
        assert_eq!(answers.outcome(asked), Ok(0));
        assert_ne!(answers.word(mask, 0), 0);
    }
    injector.finish().unwrap();
    let after = (ptrace::gpr(pid).unwrap(), ptrace::sigmask(pid).unwrap(), maps::maps(pid).unwrap());
    assert_eq!(before, after);
    ptrace::detach(pid, 0).unwrap();
    // It sleeps on: by restart_syscall(2), or in the call itself if nobody asked the kernel in between.
    loop {
        let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
        if text.starts_with("219 ") || text.starts_with("230 ") {
            break;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_target_whose_tracer_dies_goes_on() {
    let target = Target(Command::new("sleep").arg("1000").spawn().unwrap());
    let pid = target.pid();
    while !std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap().starts_with("230 ") {
        std::thread::yield_now();
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let blocked = |text: &str| text.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned();
    // The kernel lets tracees go when the tracing thread ends.
    std::thread::spawn(move || {
        ptrace::seize(pid, ptrace::O_SYSGOOD).unwrap();
        ptrace::interrupt(pid).unwrap();
        assert_eq!(ptrace::wait(pid).unwrap(), Stop::Event);
        let memory = ProcessMemory::open(pid).unwrap();
        let mut injector = Injector::new(pid, pid, &memory).unwrap();
        injector.syscall(libc::SYS_getpid, &[]).unwrap().unwrap();
        std::mem::forget(injector);
    })
    .join()
    .unwrap();
    loop {
        let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
        if text.starts_with("219 ") || text.starts_with("230 ") {
            break;
        }
        // The thread can be joined before the kernel has let its tracees go: this one stands at the end of getpid(2) until then.
        assert!(text.starts_with("running") || text.starts_with("39 "), "{text}");
        std::thread::yield_now();
    }
    let memory = ProcessMemory::open(pid).unwrap();
    assert_eq!(inject::leftovers(pid, &memory).unwrap().len(), 1);
    assert_eq!(blocked(&status), blocked(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap()));
}

#[test]
fn a_stopped_job_stays_stopped() {
    let target = Target(Command::new("sleep").arg("1000").spawn().unwrap());
    let pid = target.pid();
    let state = || ckpt_sys::proc::stat::Stat::of(pid, pid).unwrap().state;
    while !std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap().starts_with("230 ") {
        std::thread::yield_now();
    }
    // SAFETY: no pointers; our own child.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    while state() != 'T' {
        std::thread::yield_now();
    }
    ptrace::seize(pid, ptrace::O_SYSGOOD).unwrap();
    ptrace::interrupt(pid).unwrap();
    assert_eq!(ptrace::wait(pid).unwrap(), Stop::Group(libc::SIGSTOP));
    let memory = ProcessMemory::open(pid).unwrap();
    let mut injector = Injector::new(pid, pid, &memory).unwrap();
    assert_eq!(injector.syscall(libc::SYS_getpid, &[]).unwrap().unwrap(), u64::from(target.0.id()));
    injector.finish().unwrap();
    ptrace::detach(pid, 0).unwrap();
    while state() != 'T' {
        assert!(matches!(state(), 'T' | 't' | 'R'), "{}", state());
        std::thread::yield_now();
    }
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    while state() != 'S' {
        std::thread::yield_now();
    }
}
