//! A process with threads in every state is stopped and run through hundreds of times, and notices nothing.
use ckpt_sys::inject::Injector;
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::threads;
use ckpt_sys::ptrace::{self, Stop};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

const ROUNDS: u32 = 300;

fn stop(tid: i32) {
    ptrace::seize(tid, ptrace::O_SYSGOOD).unwrap();
    ptrace::interrupt(tid).unwrap();
    loop {
        match ptrace::wait(tid).unwrap() {
            Stop::Event => return,
            Stop::Signal(signal) => ptrace::cont(tid, signal).unwrap(),
            other => panic!("thread {tid}: {other:?}"),
        }
    }
}

#[test]
fn threads_under_signals_notice_nothing() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let program = format!("{directory}/busy");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/busy.c");
    let built = Command::new("cc").args(["-O1", "-pthread", "-o", &program, source]).status().unwrap();
    assert!(built.success());
    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = i32::try_from(child.id()).unwrap();
    let memory = ProcessMemory::open(pid).unwrap();
    for _ in 0..ROUNDS {
        let tids = threads::list(pid).unwrap();
        tids.iter().for_each(|tid| stop(*tid));
        let before: Vec<_> = tids.iter().map(|tid| ptrace::gpr(*tid).unwrap()).collect();
        let mut injector = Injector::new(pid, pid, &memory).unwrap();
        injector.syscall(libc::SYS_getpid, &[]).unwrap().unwrap();
        let scratch = injector.finish_keeping_scratch().unwrap();
        for &tid in tids.iter().rev() {
            let mut injector = Injector::on_scratch(pid, tid, &memory, scratch).unwrap();
            let answer = injector.syscall(libc::SYS_gettid, &[]).unwrap().unwrap();
            assert_eq!(answer, u64::from(tid.unsigned_abs()));
            if tid == pid {
                injector.own_scratch();
            }
            injector.finish().unwrap();
        }
        let after: Vec<_> = tids.iter().map(|tid| ptrace::gpr(*tid).unwrap()).collect();
        assert_eq!(before, after);
        tids.iter().for_each(|tid| ptrace::detach(*tid, 0).unwrap());
    }
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "1\n");
    assert!(child.wait().unwrap().success());
}
