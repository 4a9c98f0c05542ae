//! Zombies: processes that end again as soon as they are there, and that their parents find as they were.
use crate::birth::{self, Family, member};
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::DeadTaskV1;
use ckpt_sys::inject::InjectError;
use ckpt_sys::ptrace::{self, Stop};

const PR_SET_NAME: u64 = 15;
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

/// Has all zombies end.
pub(crate) fn bury(family: &mut Family<'_>, dead: &[DeadTaskV1]) -> RestoreResult<()> {
    for task in dead {
        // A parent that ignores the signal would not get the status.
        let parent = &mut member(family, task.ppid)?.builder;
        set_action(parent, task.exit_signal, SIG_DFL)?;
        let builder = &mut member(family, task.pid)?.builder;
        let name = builder.place_path(&task.comm)?.get();
        builder.prctl("prctl(PR_SET_NAME)", &[PR_SET_NAME, name, 0, 0, 0])?;
        let (uid, gid) = (u64::from(task.owner.0), u64::from(task.owner.1));
        let object = format!("pid {}", task.pid);
        builder.call("setresgid", &object, libc::SYS_setresgid, &[gid, gid, gid])?;
        builder.call("setresuid", &object, libc::SYS_setresuid, &[uid, uid, uid])?;
        match task.status & 0x7f {
            0 => birth::end(family, task.pid, u64::from((task.status >> 8).unsigned_abs() & 0xff))?,
            signal => kill(family, task.pid, signal)?,
        }
        // The signal of this end was taken, or is among the parent's pending ones: ignoring it for a moment takes it off.
        let parent = &mut member(family, task.ppid)?.builder;
        set_action(parent, task.exit_signal, SIG_IGN)?;
        set_action(parent, task.exit_signal, SIG_DFL)?;
    }
    Ok(())
}

fn set_action(builder: &mut Builder<'_>, signal: i32, handler: u64) -> RestoreResult<()> {
    if matches!(signal, 0 | libc::SIGKILL | libc::SIGSTOP) {
        return Ok(());
    }
    let bytes: Vec<u8> = [handler, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let at = builder.place(&bytes)?.get();
    let args = [u64::from(signal.unsigned_abs()), at, 0, 8];
    builder.call("rt_sigaction", &format!("signal {signal}"), libc::SYS_rt_sigaction, &args).map(drop)
}

/// Has a process die by `signal`, without a core dump.
fn kill(family: &mut Family<'_>, pid: i32, signal: i32) -> RestoreResult<()> {
    let Some(mut member) = family.remove(&pid) else { return Ok(()) };
    let builder = &mut member.builder;
    let none = builder.place(&[0; 16])?.get();
    let core = u64::from(libc::RLIMIT_CORE);
    builder.call("prlimit", &"RLIMIT_CORE", libc::SYS_prlimit64, &[0, core, none, 0])?;
    set_action(builder, signal, SIG_DFL)?;
    if signal != libc::SIGKILL {
        ptrace::set_sigmask(pid, 0)?;
    }
    // SAFETY: no pointers; the process is held by us.
    unsafe { libc::kill(pid, signal) };
    let mut deliver = 0;
    loop {
        // SIGKILL does not wait for us.
        match ptrace::cont(pid, deliver) {
            Err(error) if !error.is_gone() => return Err(error.into()),
            _ => {}
        }
        deliver = match ptrace::wait(pid)? {
            Stop::Killed(_) | Stop::Exited(_) => break,
            Stop::Signal(signal) => signal,
            Stop::Event => 0,
            stop => return Err(RestoreError::Inject(InjectError::Unexpected { tid: pid, stop })),
        };
    }
    member.leader.forget();
    Ok(())
}
