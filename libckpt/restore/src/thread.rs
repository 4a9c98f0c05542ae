//! Threads: born with their ids, and given all that the kernel keeps for each.
use crate::builder::Builder;
use crate::calls::Calls;
use crate::creds::restore_creds;
use crate::error::{RestoreError, RestoreResult};
use crate::leader::{Patience, write_proc};
use crate::records::Records;
use crate::sighand::restore_pending;
use crate::{next_pid, one_processor, seccomp};
use ckpt_image::record::{RegistersV1, RestartV1, ThreadV1};
use ckpt_sys::arch::{self, Gpr};
use ckpt_sys::ptrace::{self, Stop};
use ckpt_sys::sched::{self, SchedAttr};
use ckpt_sys::spawn::{CLONE_ARGS_SIZE, CloneArgs};
use nix::errno::Errno;

const PR_SET_PDEATHSIG: u64 = 1;
const PR_SET_NAME: u64 = 15;
const CLONE_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_PTRACE)
    .unsigned_abs() as u64;
/// SS_DISABLE.
const ALTSTACK_DISABLED: u32 = 2;

/// Makes thread `tid` in the process; it comes up traced and stopped.
pub(crate) fn spawn_thread(builder: &mut Builder<'_>, records: &Records, tid: i32) -> RestoreResult<()> {
    spawn_unshared_thread(builder, records, tid, 0)
}

/// As [`spawn_thread`], of a thread that gets a copy of what the CLONE_* flags `unshared` name.
pub(crate) fn spawn_unshared_thread(
    builder: &mut Builder<'_>,
    records: &Records,
    tid: i32,
    unshared: i32,
) -> RestoreResult<()> {
    let flags = CLONE_FLAGS & !u64::from(unshared.unsigned_abs());
    let pid = builder.remote.pid();
    let mut patience = Patience::new();
    loop {
        let args = CloneArgs { flags, ..CloneArgs::default() };
        let at = place_clone_args(builder, args, &records.inner_pids.numbers(tid))?;
        match builder.remote.syscall(libc::SYS_clone3, &[at, CLONE_ARGS_SIZE])? {
            Ok(_) => break,
            // The kernel gives a dead thread's id back a moment after its process could be waited for.
            Err(Errno::EEXIST) => patience.wait_for(tid)?,
            Err(Errno::EPERM) => return next_pid::spawn_thread(builder, &records.inner_pids, tid, flags),
            Err(errno) => {
                return Err(RestoreError::Remote {
                    pid,
                    call: "clone3",
                    object: format!("thread {tid}"),
                    errno,
                });
            }
        }
    }
    match ptrace::wait(tid)? {
        Stop::Event => Ok(()),
        stop => Err(ckpt_sys::inject::InjectError::Unexpected { tid, stop }.into()),
    }
}

/// Copies the arguments of a clone3(2) that is to make a process or thread with these ids to the scratch area; their address.
pub(crate) fn place_clone_args(
    builder: &mut Builder<'_>,
    args: CloneArgs,
    numbers: &[i32],
) -> RestoreResult<u64> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
    let set_tid = builder.place(&bytes)?.get();
    let set_tid_size = u64::try_from(numbers.len()).unwrap_or(0);
    Ok(builder.place(&CloneArgs { set_tid, set_tid_size, ..args }.to_bytes())?.get())
}

/// Gives the thread of `builder` its state. Its registers and signal mask are set when the builder's injector finishes.
pub(crate) fn restore_thread(
    builder: &mut Builder<'_>,
    thread: &ThreadV1,
    filters: &mut seccomp::Plan<'_>,
) -> RestoreResult<()> {
    let object = format!("thread {}", thread.tid);
    let (address, flags, size) = thread.altstack;
    let flags = if size == 0 { flags | ALTSTACK_DISABLED } else { flags };
    let bytes: Vec<u8> =
        [address, u64::from(flags), size].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut calls = builder.calls();
    let add = |calls: &mut Calls, call, nr, args: &[u64]| calls.add(call, object.clone(), nr, args);
    let at = calls.place(&bytes);
    add(&mut calls, "sigaltstack", libc::SYS_sigaltstack, &[at, 0]);
    if thread.robust_list.0 != 0 {
        let (head, len) = thread.robust_list;
        add(&mut calls, "set_robust_list", libc::SYS_set_robust_list, &[head, len]);
    }
    add(&mut calls, "set_tid_address", libc::SYS_set_tid_address, &[thread.clear_child_tid]);
    let name = calls.place(&[&thread.comm[..], &[0]].concat());
    add(&mut calls, "prctl(PR_SET_NAME)", libc::SYS_prctl, &[PR_SET_NAME, name, 0, 0, 0]);
    builder.make(calls)?;
    restore_sched(thread)?;
    restore_pending(builder, &thread.pending, false)?;
    filters.restore(builder)?;
    restore_creds(builder, &thread.creds)?;
    if thread.pdeathsig != 0 {
        let signal = u64::from(thread.pdeathsig.unsigned_abs());
        builder.prctl("prctl(PR_SET_PDEATHSIG)", &[PR_SET_PDEATHSIG, signal, 0, 0, 0])?;
    } else {
        // Not before: until then it may be what ends the process with us.
        builder.prctl("prctl(PR_SET_PDEATHSIG)", &[PR_SET_PDEATHSIG, 0, 0, 0, 0])?;
    }
    restore_registers(builder, thread)?;
    // Last: from here on the kernel writes to its area whenever the thread runs.
    if let Some(rseq) = &thread.rseq {
        let args = [rseq.address, u64::from(rseq.size), 0, u64::from(rseq.signature)];
        builder.call("rseq", &object, libc::SYS_rseq, &args)?;
    }
    Ok(())
}

fn restore_sched(thread: &ThreadV1) -> RestoreResult<()> {
    let wanted = SchedAttr {
        size: 0,
        policy: thread.sched.policy,
        flags: thread.sched.flags,
        nice: thread.sched.nice,
        priority: thread.sched.priority,
        runtime: thread.sched.runtime,
        deadline: thread.sched.deadline,
        period: thread.sched.period,
        util_min: thread.sched.util.0,
        util_max: thread.sched.util.1,
    };
    let tid = thread.tid;
    // First: the kernel takes no deadlines of a thread that is bound.
    if sched::affinity(tid)? != thread.affinity
        && let Err(error) = sched::set_affinity(tid, &thread.affinity)
    {
        // None of its CPUs is in this machine: then any will do.
        if error.errno() != Some(Errno::EINVAL) {
            return Err(error.into());
        }
        tracing::warn!(tid, "the CPUs that the thread was bound to are not there; it may run on any");
        one_processor::let_run_anywhere(tid)?;
    }
    let now = sched::attributes(tid)?;
    if (SchedAttr { size: 0, ..now }) != wanted {
        sched::set_attributes(tid, &wanted)?;
    }
    if sched::ioprio(tid)? != thread.ioprio {
        sched::set_ioprio(tid, thread.ioprio)?;
    }
    if thread.timer_slack_ns != 0 {
        write_proc(tid, "timerslack_ns", &thread.timer_slack_ns.to_string())?;
    }
    Ok(())
}

fn restore_registers(builder: &mut Builder<'_>, thread: &ThreadV1) -> RestoreResult<()> {
    let tid = thread.tid;
    let RegistersV1::X86_64 { gpr, xstate } = &thread.registers;
    if arch::xstate_components(xstate) & arch::XFEATURE_TILE_DATA != 0 {
        // The kernel has room for tile data only once the thread has used it.
        let config = builder.place(&arch::amx_configuration())?.get();
        builder.remote.run_scratch_code(arch::AMX_TOUCH_OFFSET, config)?;
    }
    if let Err(error) = ptrace::set_xstate(tid, xstate) {
        let own = ptrace::xstate(tid)?.len();
        return Err(if own == xstate.len() {
            error.into()
        } else {
            RestoreError::Machine {
                reason: format!(
                    "its processor state is {own} bytes, the checkpoint's is {}: the processors differ",
                    xstate.len()
                ),
                remedy: "Restore on a machine with the same processor features".into(),
            }
        });
    }
    builder.remote.set_registers(Gpr::from_words(*gpr));
    builder.remote.set_sigmask(thread.sigmask);
    Ok(())
}

/// Gives the thread a restart block for the call that the freeze interrupted. The last call that runs in the thread.
pub(crate) fn restore_restart(builder: &mut Builder<'_>, restart: &RestartV1) -> RestoreResult<()> {
    let mut args = restart.args;
    if let Some(ns) = restart.remaining_ns {
        let time: Vec<u8> =
            [ns / 1_000_000_000, ns % 1_000_000_000].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let at = builder.place(&time)?.get();
        match i64::try_from(restart.nr).unwrap_or(-1) {
            libc::SYS_nanosleep => args[0] = at,
            libc::SYS_clock_nanosleep => args[2] = at,
            libc::SYS_futex => args[3] = at,
            // Its time-out is in ms, and it may not end early.
            libc::SYS_poll => args[2] = ns.div_ceil(1_000_000).min(u64::from(i32::MAX.unsigned_abs())),
            _ => {}
        }
    }
    let result = builder.remote.interrupted_syscall(restart.nr, args)?;
    let mut gpr = *builder.remote.registers();
    if result != arch::restart::ERESTART_RESTARTBLOCK {
        // It had ended by itself (no time left, or what it waits for is there): the program gets the result.
        gpr.rax = result.cast_unsigned();
        gpr.orig_rax = arch::NO_SYSCALL;
        builder.remote.set_registers(gpr);
    }
    Ok(())
}
