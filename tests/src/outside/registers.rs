//! Registers of every thread, by ptrace(2): seized, stopped, read, let go.
use super::{View, hex, threads};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::ops::Range;

const NT_PRSTATUS: i32 = 1;
const NT_X86_XSTATE: i32 = 0x202;
/// XSTATE_BV and what software keeps in the area: which components stand in their initial state differs with the way in
/// which they came there, not with what a program sees.
const XSTATE_BOOKKEEPING: Range<usize> = 464..528;

/// Reads the registers of every thread into the view. Returns the addresses that the kernel writes by itself while
/// a thread runs: the CPU numbers in its rseq area.
pub(super) fn look(view: &mut View, pid: i32) -> Vec<Range<u64>> {
    let tids: Vec<Pid> = threads::ids(pid).into_iter().map(Pid::from_raw).collect();
    let mut volatile = Vec::new();
    for &tid in &tids {
        ptrace::seize(tid, ptrace::Options::empty()).expect("PTRACE_SEIZE");
        ptrace::interrupt(tid).expect("PTRACE_INTERRUPT");
        waitpid(tid, Some(WaitPidFlag::__WALL)).expect("wait for the stop");
        view.set(format!("registers {tid} general"), general(tid));
        view.set(format!("registers {tid} extended"), extended(tid));
        volatile.extend(rseq(tid));
        ptrace::detach(tid, None).expect("PTRACE_DETACH");
    }
    volatile
}

fn general(tid: Pid) -> String {
    const NAMES: [&str; 27] = [
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
        "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
    ];
    let bytes = register_set(tid, NT_PRSTATUS);
    NAMES
        .iter()
        .zip(bytes.chunks_exact(8))
        .map(|(name, word)| {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            format!("{name}={word:x} ")
        })
        .collect()
}

fn extended(tid: Pid) -> String {
    let mut bytes = register_set(tid, NT_X86_XSTATE);
    bytes[XSTATE_BOOKKEEPING].fill(0);
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    hex(&bytes)
}

/// PTRACE_GETREGSET.
fn register_set(tid: Pid, kind: i32) -> Vec<u8> {
    let mut bytes = vec![0u8; 64 << 10];
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel writes at most iov_len bytes to iov_base, and the length that it wrote to iov_len.
    let done = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid.as_raw(), kind, &raw mut iov) };
    Errno::result(done).expect("PTRACE_GETREGSET");
    bytes.truncate(iov.iov_len);
    bytes
}

/// PTRACE_GET_RSEQ_CONFIGURATION: cpu_id_start and cpu_id, node_id and mm_cid of a registered area.
fn rseq(tid: Pid) -> Vec<Range<u64>> {
    const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
    let mut words = [0u64; 3];
    // SAFETY: the kernel writes at most the size that is passed.
    let done = unsafe {
        libc::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid.as_raw(), size_of_val(&words), words.as_mut_ptr())
    };
    match Errno::result(done) {
        Ok(_) if words[0] != 0 => vec![words[0]..words[0] + 8, words[0] + 20..words[0] + 32],
        _ => Vec::new(),
    }
}
