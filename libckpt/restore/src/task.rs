//! One process: what all its threads share.
use crate::builder::Builder;
use crate::error::RestoreResult;
use crate::leader::write_proc;
use ckpt_image::record::TaskV1;
use ckpt_sys::proc;
use nix::errno::Errno;

const PR_SET_CHILD_SUBREAPER: u64 = 36;
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
const XFEATURES: u64 = 64;
/// Registration commands of membarrier(2).
const MEMBARRIER_REGISTER: [u64; 4] = [1 << 2, 1 << 4, 1 << 6, 1 << 8];

/// What must be there before threads get their state: features of the processor that the process asked for.
pub(crate) fn restore_features(builder: &mut Builder<'_>, task: &TaskV1) -> RestoreResult<()> {
    if task.xcomp_perm != 0 {
        let at = builder.place(&[0; 8])?;
        let get = builder.remote.syscall(libc::SYS_arch_prctl, &[ARCH_GET_XCOMP_PERM, at.get()])?;
        let now = if get.is_ok() { builder.remote.memory().read_u64(at)? } else { 0 };
        for feature in (0..XFEATURES).filter(|feature| task.xcomp_perm & !now & (1 << feature) != 0) {
            let object = format!("processor feature {feature}");
            builder.call(
                "arch_prctl(ARCH_REQ_XCOMP_PERM)",
                &object,
                libc::SYS_arch_prctl,
                &[ARCH_REQ_XCOMP_PERM, feature],
            )?;
        }
    }
    for command in MEMBARRIER_REGISTER {
        if u64::from(task.membarrier) & command != 0 {
            builder.call("membarrier", &"the process", libc::SYS_membarrier, &[command, 0, 0])?;
        }
    }
    Ok(())
}

/// What the process as a whole has besides memory, files, signals and timers.
pub(crate) fn restore_task(builder: &mut Builder<'_>, task: &TaskV1) -> RestoreResult<()> {
    let pid = task.pid;
    builder.call("personality", &"the process", libc::SYS_personality, &[u64::from(task.personality)])?;
    builder.prctl(
        "prctl(PR_SET_CHILD_SUBREAPER)",
        &[PR_SET_CHILD_SUBREAPER, u64::from(task.child_subreaper), 0, 0, 0],
    )?;
    if task.coredump_filter != 0 {
        write_proc(pid, "coredump_filter", &format!("{:#x}", task.coredump_filter))?;
    }
    if proc::read_text(pid, "loginuid").is_ok_and(|text| text.trim() != task.loginuid.to_string())
        && let Err(errno) = set_loginuid(builder, task.loginuid)?
    {
        tracing::warn!(pid, loginuid = task.loginuid, %errno, "the login of the process stays as it is");
    }
    let score = task.oom_score_adj.to_string();
    if proc::read_text(pid, "oom_score_adj")?.trim() != score
        && let Err(error) = write_proc(pid, "oom_score_adj", &score)
    {
        if !matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)) {
            return Err(error.into());
        }
        tracing::warn!(pid, score, "oom_score_adj stays as it is: lowering it needs CAP_SYS_RESOURCE");
    }
    Ok(())
}

/// Only the process itself may say as of what login it counts.
fn set_loginuid(builder: &mut Builder<'_>, loginuid: u32) -> RestoreResult<Result<u64, Errno>> {
    let at_cwd = i64::from(libc::AT_FDCWD).cast_unsigned();
    let path = builder.place_path(b"/proc/self/loginuid")?.get();
    let mode = u64::from((libc::O_WRONLY | libc::O_CLOEXEC).unsigned_abs());
    let file = match builder.remote.syscall(libc::SYS_openat, &[at_cwd, path, mode, 0])? {
        Ok(file) => file,
        Err(errno) => return Ok(Err(errno)),
    };
    let text = loginuid.to_string();
    let at = builder.place(text.as_bytes())?.get();
    let len = u64::try_from(text.len()).unwrap_or(0);
    let written = builder.remote.syscall(libc::SYS_write, &[file, at, len])?;
    builder.call("close", &"loginuid", libc::SYS_close, &[file])?;
    Ok(written)
}

/// Resource limits, last: the work of restore itself may need more than the program has.
pub(crate) fn restore_rlimits(builder: &mut Builder<'_>, task: &TaskV1) -> RestoreResult<()> {
    let mut calls = builder.calls();
    for (resource, &(soft, hard)) in (0u64..).zip(&task.rlimits) {
        let at = calls.place(&limits(soft, hard));
        calls.add("prlimit64", format!("limit {resource}"), libc::SYS_prlimit64, &[0, resource, at, 0]);
    }
    let made = builder.try_make(calls)?;
    for ((resource, &(soft, hard)), made) in (0u64..).zip(&task.rlimits).zip(made) {
        if made.outcome == Err(Errno::EPERM) {
            // A hard limit cannot be raised without CAP_SYS_RESOURCE: the program keeps what it used, up to ours.
            let now = builder.place(&[0; 16])?;
            builder.call(
                "prlimit64",
                &format!("limit {resource}"),
                libc::SYS_prlimit64,
                &[0, resource, 0, now.get()],
            )?;
            let most = builder.remote.memory().read_u64(now.offset(8))?;
            tracing::warn!(pid = task.pid, resource, hard, most, "the hard limit stays lower than it was");
            let at = builder.place(&limits(soft.min(most), most))?.get();
            let again = builder.remote.syscall(libc::SYS_prlimit64, &[0, resource, at, 0])?;
            if let Err(errno) = again {
                tracing::warn!(pid = task.pid, resource, %errno, "the resource limit is not restored");
            }
        } else if let Err(errno) = made.outcome {
            return Err(made.failed(errno));
        }
    }
    Ok(())
}

/// As prlimit64(2) takes them.
fn limits(soft: u64, hard: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&soft.to_ne_bytes());
    bytes[8..].copy_from_slice(&hard.to_ne_bytes());
    bytes
}
