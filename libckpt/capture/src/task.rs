//! One process: what all its threads share.
use crate::error::{CaptureError, CaptureResult};
use crate::sighand::capture_pending;
use crate::timer::{ask_itimers, capture_posix_timers};
use ckpt_image::record::{FdTableId, FsId, ItimerV1, MmId, SighandId, TaskV1};
use ckpt_sys::inject::{Answers, Batch, Injector};
use ckpt_sys::proc::{self, malformed, stat::Stat};
use ckpt_sys::ptrace::Queue;

const PR_GET_CHILD_SUBREAPER: u64 = 37;
const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
const MEMBARRIER_GET_REGISTRATIONS: u64 = 1 << 9;

/// What only the process itself can tell.
#[derive(Debug)]
pub(crate) struct Told {
    child_subreaper: bool,
    itimers: [ItimerV1; 3],
    membarrier: u32,
    xcomp_perm: u64,
}

/// Asks process `pid` for what only it can tell.
pub(crate) fn ask_task(pid: i32, batch: &mut Batch) -> impl FnOnce(&Answers) -> CaptureResult<Told> + use<> {
    let (subreaper, features) = (batch.reserve(8), batch.reserve(8));
    let prctl = batch.call(libc::SYS_prctl, &[PR_GET_CHILD_SUBREAPER, subreaper.address()]);
    // On kernels before 6.3, which cannot tell, an error.
    let membarrier = batch.call(libc::SYS_membarrier, &[MEMBARRIER_GET_REGISTRATIONS, 0, 0]);
    // The XSAVE features that the process asked for; an error on kernels without dynamic ones.
    let arch_prctl = batch.call(libc::SYS_arch_prctl, &[ARCH_GET_XCOMP_PERM, features.address()]);
    let itimers = ask_itimers(pid, batch);
    move |answers| {
        let failed = |errno| CaptureError::Remote { pid, call: "prctl(PR_GET_CHILD_SUBREAPER)", errno };
        answers.outcome(prctl).map_err(failed)?;
        Ok(Told {
            child_subreaper: answers.word(subreaper, 0) & 0xffff_ffff != 0,
            itimers: itimers(answers)?,
            membarrier: answers.outcome(membarrier).map_or(0, |mask| u32::try_from(mask).unwrap_or(0)),
            xcomp_perm: answers.outcome(arch_prctl).map_or(0, |_| answers.word(features, 0)),
        })
    }
}

/// The record of the process whose leader `injector` holds. Its parent, and what it shares with other processes, are the caller's to fill in.
pub(crate) fn capture_task(
    injector: &mut Injector<'_>,
    told: Told,
    tids: Vec<i32>,
    stopped_by: Option<i32>,
) -> CaptureResult<TaskV1> {
    let pid = injector.pid();
    let stat = Stat::of(pid, pid)?;
    let Told { child_subreaper, itimers, membarrier, xcomp_perm } = told;
    Ok(TaskV1 {
        pid,
        ppid: 0,
        pgid: stat.pgrp,
        sid: stat.session,
        tids,
        mm: MmId(0),
        fd_table: FdTableId(0),
        fs: FsId(0),
        sighand: SighandId(0),
        exit_signal: stat.exit_signal,
        personality: hex(pid, "personality")?,
        oom_score_adj: proc::read_text(pid, "oom_score_adj")?.trim().parse().unwrap_or(0),
        child_subreaper,
        rlimits: rlimits(pid)?,
        itimers,
        posix_timers: capture_posix_timers(injector)?,
        pending: capture_pending(injector.tid(), Queue::Shared)?,
        membarrier,
        xcomp_perm,
        coredump_filter: hex(pid, "coredump_filter").unwrap_or(0),
        stopped: stopped_by.is_some(),
        stop_signal: stopped_by.unwrap_or(0),
        loginuid: loginuid(pid),
    })
}

/// The login that the process counts as of; not set where the kernel has no audit.
fn loginuid(pid: i32) -> u32 {
    let text = proc::read_text(pid, "loginuid").unwrap_or_default();
    text.trim().parse().unwrap_or(u32::MAX)
}

fn hex(pid: i32, name: &'static str) -> CaptureResult<u32> {
    let text = proc::read_text(pid, name)?;
    Ok(u32::from_str_radix(text.trim(), 16).map_err(|_| malformed(name, pid))?)
}

/// Resource limits from /proc/PID/limits: prlimit(2) asks for CAP_SYS_RESOURCE where that file asks for nothing.
fn rlimits(pid: i32) -> CaptureResult<Vec<(u64, u64)>> {
    /// The lines' names by RLIMIT number.
    const NAMES: [&str; 16] = [
        "Max cpu time",
        "Max file size",
        "Max data size",
        "Max stack size",
        "Max core file size",
        "Max resident set",
        "Max processes",
        "Max open files",
        "Max locked memory",
        "Max address space",
        "Max file locks",
        "Max pending signals",
        "Max msgqueue size",
        "Max nice priority",
        "Max realtime priority",
        "Max realtime timeout",
    ];
    let text = proc::read_text(pid, "limits")?;
    let value = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let limit = |name: &str| {
        let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
        Some((value(words.next()?)?, value(words.next()?)?))
    };
    let limits: Option<Vec<_>> = NAMES.iter().map(|name| limit(name)).collect();
    Ok(limits.ok_or_else(|| malformed("parse of limits", pid))?)
}
