//! The tracer dies while it maps or unmaps the scratch area: the target goes on as it was.
use ckpt_sys::inject::{self, Injector};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps;
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::proc::status::Status;
use ckpt_sys::ptrace::{self, Stop};
use ckpt_sys::{RemoteAddr, arch::Gpr, fault};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// In the order in which they are reached; those that both calls have are reached twice.
const POINTS: [(&str, u32); 16] = [
    ("inject.laid", 0),
    ("inject.standing", 0),
    ("inject.map.set", 0),
    ("inject.map.begun", 0),
    ("inject.map.ended", 0),
    ("inject.lifting", 0),
    ("inject.held", 0),
    ("inject.running", 0),
    ("inject.batch", 0),
    ("inject.laid", 1),
    ("inject.standing", 1),
    ("inject.unmap.set", 0),
    ("inject.unmap.begun", 0),
    ("inject.unmap.ended", 0),
    ("inject.mask", 0),
    ("inject.lifting", 1),
];

thread_local! {
    /// Where this thread is to end, and how often it passes there before.
    static END: RefCell<Option<(&'static str, u32)>> = const { RefCell::new(None) };
}

/// Ends the thread as a signal would: nothing is unwound, and the kernel lets its tracees go.
fn end_here(point: &str) {
    let end = END.with_borrow_mut(|end| match end {
        Some((name, skip)) if *name == point => skip.checked_sub(1).map(|left| *skip = left).is_none(),
        _ => false,
    });
    if end {
        // SAFETY: the thread owns nothing that another waits for.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

struct Victim {
    child: Child,
    pid: i32,
}

impl Victim {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid = i32::try_from(child.id()).unwrap();
        Self { child, pid }
    }

    fn wait_until_it_reads(&self, when: &str) {
        // read(2), or poll(2) for the first time or again.
        self.wait_until_in(&["0 0x0 ", "7 0x", "219 0x"], when);
    }

    fn wait_until_in(&self, calls: &[&str], when: &str) {
        let file = format!("/proc/{}/syscall", self.pid);
        let in_one = || {
            let text = std::fs::read_to_string(&file).unwrap();
            calls.iter().any(|call| text.starts_with(call))
        };
        until(when, in_one);
    }

    fn mappings(&self) -> Vec<(u64, u64, u32)> {
        let mappings = maps::maps(self.pid).unwrap();
        mappings.iter().map(|mapping| (mapping.start, mapping.end, mapping.prot)).collect()
    }

    fn mask(&self) -> u64 {
        Status::of(self.pid, self.pid).unwrap().mask("SigBlk").unwrap()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: no pointers; our own child.
        unsafe { libc::kill(self.pid, signal) };
    }

    fn must_be_well(mut self, when: &str) {
        self.child.stdin.take().unwrap().write_all(b"x").unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{when}: the target found its state changed, or died: {status}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::yield_now();
    }
}

fn stop(pid: i32) -> Gpr {
    ptrace::seize(pid, ptrace::O_SYSGOOD).unwrap();
    ptrace::interrupt(pid).unwrap();
    loop {
        match ptrace::wait(pid).unwrap() {
            Stop::Event => return ptrace::gpr(pid).unwrap(),
            Stop::Signal(signal) => ptrace::cont(pid, signal).unwrap(),
            stop => panic!("{stop:?}"),
        }
    }
}

fn program() -> String {
    // Tests run side by side, each in a process of its own.
    let program = format!("{}/victim-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/victim.c");
    let built = Command::new("cc").args(["-O1", "-mno-red-zone", "-o", &program, source]).status().unwrap();
    assert!(built.success());
    program
}

/// A thread takes hold of the target, and ends at the point.
fn trace_and_die(pid: i32, point: &'static str, skip: u32, signal: Option<i32>) {
    let (tell, told) = mpsc::channel();
    // Not joined: it does not end as threads of this library do.
    std::thread::spawn(move || {
        // SAFETY: no arguments.
        tell.send(unsafe { libc::gettid() }).unwrap();
        stop(pid);
        END.set(Some((point, skip)));
        let memory = ProcessMemory::open(pid).unwrap();
        if let Some(signal) = signal {
            // SAFETY: no pointers; a child of this process.
            unsafe { libc::kill(pid, signal) };
        }
        let mut injector = Injector::new(pid, pid, &memory).unwrap();
        injector.syscall(libc::SYS_getpid, &[]).unwrap().unwrap();
        for end in [inject::meaningless_signal(0), None] {
            injector.end_batches_by(end);
            let mut batch = injector.batch();
            let calls: Vec<_> = (0..100).map(|_| batch.call(libc::SYS_getpid, &[])).collect();
            let answers = injector.run(batch).unwrap();
            let own = Ok(u64::from(pid.unsigned_abs()));
            assert!(calls.into_iter().all(|call| answers.outcome(call) == own));
        }
        injector.finish().unwrap();
        tell.send(0).unwrap();
    });
    let tracer = told.recv().unwrap();
    until("the tracer ends", || !std::fs::exists(format!("/proc/self/task/{tracer}")).unwrap());
    assert!(told.try_recv().is_err(), "{point} was not reached");
}

/// What a cleaner does.
fn clean(pid: i32) {
    let memory = ProcessMemory::open(pid).unwrap();
    let begin = Instant::now();
    let leftovers = loop {
        let gpr = stop(pid);
        let leftovers = inject::leftovers(pid, &memory).unwrap();
        if !inject::is_recovering(&gpr, &leftovers, &memory) {
            break leftovers;
        }
        assert!(begin.elapsed() < Duration::from_secs(20));
        ptrace::detach(pid, 0).unwrap();
        std::thread::yield_now();
    };
    let mut injector = Injector::new(pid, pid, &memory).unwrap();
    for leftover in leftovers {
        injector.unmap_leftover(leftover).unwrap().unwrap();
    }
    injector.finish().unwrap();
    ptrace::detach(pid, 0).unwrap();
}

fn the_target_survives(arguments: &[&str], signal: Option<i32>) {
    fault::set_hook(end_here);
    let program = program();
    for (point, skip) in POINTS {
        let when = format!("{point}, {skip} times passed");
        let victim = Victim::start(&program, arguments);
        victim.wait_until_it_reads("before");
        let before = (victim.mappings(), victim.mask());
        trace_and_die(victim.pid, point, skip, signal);
        victim.wait_until_it_reads(&when);
        assert_eq!(victim.mask(), before.1, "{when}");
        clean(victim.pid);
        assert_eq!((victim.mappings(), victim.mask()), before, "{when}");
        if arguments != ["poll"] {
            victim.signal(libc::SIGALRM);
            victim.wait_until_it_reads(&when);
        }
        victim.must_be_well(&when);
    }
    std::fs::remove_file(program).unwrap();
}

#[test]
fn a_target_on_its_main_stack() {
    the_target_survives(&[], None);
}

#[test]
fn a_target_on_a_stack_of_its_own() {
    the_target_survives(&["elsewhere"], None);
}

#[test]
fn a_target_with_a_restart_block() {
    the_target_survives(&["poll"], None);
}

#[test]
fn a_signal_is_pending() {
    the_target_survives(&[], Some(libc::SIGALRM));
}

/// A sleep is slept to its end, and does not return as if a signal had come. `stopped_before`: it sleeps on after a first interruption.
fn a_sleep_survives(points: &[(&'static str, u32)], stopped_before: bool) {
    fault::set_hook(end_here);
    let program = program();
    let mut victims = Vec::new();
    for &(point, skip) in points {
        let victim = Victim::start(&program, &["sleep"]);
        victim.wait_until_in(&["230 "], "it sleeps");
        if stopped_before {
            victim.signal(libc::SIGSTOP);
            until("it stops", || Stat::of(victim.pid, victim.pid).unwrap().state == 'T');
            victim.signal(libc::SIGCONT);
            victim.wait_until_in(&["219 "], "it sleeps on");
        }
        trace_and_die(victim.pid, point, skip, None);
        victims.push((victim, point, skip));
    }
    for (mut victim, point, skip) in victims {
        let status = victim.child.wait().unwrap();
        assert!(status.success(), "{point}, {skip} times passed: {status}");
    }
    std::fs::remove_file(program).unwrap();
}

#[test]
fn a_target_asleep() {
    a_sleep_survives(&POINTS, false);
}

#[test]
fn a_target_asleep_since_before_it_was_stopped() {
    // Elsewhere the tracer must know which call it is.
    a_sleep_survives(&[("inject.laid", 0), ("inject.held", 0)], true);
}

/// The scratch area stays as long as a signal handler runs that was called from there.
#[test]
fn a_handler_takes_its_time() {
    fault::set_hook(end_here);
    let program = program();
    let mut victim = Victim::start(&program, &["handle"]);
    victim.wait_until_in(&["230 "], "it sleeps");
    trace_and_die(victim.pid, "inject.held", 0, Some(libc::SIGALRM));
    victim.wait_until_it_reads("the handler runs");
    let memory = ProcessMemory::open(victim.pid).unwrap();
    let look = || {
        let gpr = stop(victim.pid);
        let leftovers = inject::leftovers(victim.pid, &memory).unwrap();
        assert!(!inject::is_recovering(&gpr, &leftovers, &memory));
        let in_use = leftovers.iter().filter(|leftover| leftover.is_returned_to(&gpr, &memory)).count();
        ptrace::detach(victim.pid, 0).unwrap();
        (leftovers.len(), in_use)
    };
    assert_eq!(look(), (1, 1));
    victim.child.stdin.take().unwrap().write_all(b"x").unwrap();
    assert!(victim.child.wait().unwrap().success());
    std::fs::remove_file(program).unwrap();
}

/// What was on the stack where the frame stood is back after a life that nobody interrupts.
#[test]
fn the_stack_is_put_back() {
    let program = program();
    let victim = Victim::start(&program, &[]);
    std::fs::remove_file(program).unwrap();
    victim.wait_until_it_reads("before");
    let stack = maps::find_special(victim.pid, b"[stack]").unwrap().unwrap();
    let memory = ProcessMemory::open(victim.pid).unwrap();
    let gpr = stop(victim.pid);
    // Dead stack that is not blank.
    let size = usize::try_from(gpr.stack_pointer() - 128 - stack.start).unwrap();
    memory.write(RemoteAddr::new(stack.start), &vec![0x5a; size]).unwrap();
    let read = || {
        let mut bytes = vec![0; usize::try_from(stack.end - stack.start).unwrap()];
        memory.read(RemoteAddr::new(stack.start), &mut bytes).unwrap();
        bytes
    };
    let before = read();
    let injector = Injector::new(victim.pid, victim.pid, &memory).unwrap();
    assert!(read() == before, "while calls run");
    injector.finish().unwrap();
    assert!(read() == before, "after");
    assert_eq!(ptrace::gpr(victim.pid).unwrap(), gpr);
    ptrace::detach(victim.pid, 0).unwrap();
    victim.wait_until_it_reads("after");
    victim.must_be_well("after");
}
