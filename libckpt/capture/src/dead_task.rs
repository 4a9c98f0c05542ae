//! Zombies.
use crate::error::CaptureResult;
use ckpt_image::record::DeadTaskV1;
use ckpt_sys::SysResult;
use ckpt_sys::proc::{self, malformed, stat::Stat, status::Status};

/// The record of zombie `pid`, whose parent is `ppid`.
pub(crate) fn capture_dead_task(pid: i32, ppid: i32) -> CaptureResult<DeadTaskV1> {
    let stat = Stat::of(pid, pid)?;
    let status = Status::of(pid, pid)?;
    let owner = |name: &'static str| -> SysResult<u32> {
        u32::try_from(status.number(name)?).map_err(|_| malformed("parse of status", pid))
    };
    let mut comm = proc::read(pid, "comm")?;
    comm.pop_if(|byte| *byte == b'\n');
    Ok(DeadTaskV1 {
        pid,
        ppid,
        pgid: stat.pgrp,
        sid: stat.session,
        exit_signal: stat.exit_signal,
        status: stat.exit_code,
        comm,
        owner: (owner("Uid")?, owner("Gid")?),
    })
}
