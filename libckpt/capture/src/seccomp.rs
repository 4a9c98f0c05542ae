//! Filters of system calls (seccomp): which a thread is under, each stored once however many threads have it.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{SeccompFilterId, SeccompFilterV1, SeccompV1};
use ckpt_sys::proc::status::Status;
use ckpt_sys::ptrace;
use ckpt_sys::seccomp::{self, Filter};
use std::collections::HashMap;

/// SECCOMP_RET_USER_NOTIF and the bits of a filter's answer that say so.
const RET_USER_NOTIF: u64 = 0x7fc0_0000;
const RET_ACTION: u64 = 0xffff_0000;
/// Classes of instructions that have an answer in them: BPF_LD | BPF_IMM, and BPF_RET | BPF_K.
const LOAD: u64 = 0x00;
const RETURN: u64 = 0x06;

/// The filters that were found so far.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    records: Vec<SeccompFilterV1>,
    /// By what was there before, and what was added.
    known: HashMap<(Option<SeccompFilterId>, Filter), SeccompFilterId>,
}

impl Filters {
    /// Their records.
    pub(crate) fn records(&self) -> &[SeccompFilterV1] {
        &self.records
    }

    /// What stopped thread `tid` of `pid` is under.
    pub(crate) fn of_thread(&mut self, pid: i32, tid: i32, status: &Status) -> CaptureResult<SeccompV1> {
        match mode(status) {
            0 => return Ok(SeccompV1::Disabled),
            1 => return Ok(SeccompV1::Strict),
            _ => {}
        }
        let mut newest = None;
        let read = |index| {
            seccomp::filter(tid, index).map_err(|error| {
                if seccomp::is_refusal(&error) { refused(pid, tid, &error.to_string()) } else { error.into() }
            })
        };
        let mut index = 0;
        while let Some(filter) = read(index)? {
            if has_listener(&filter) {
                return Err(CaptureError::unsupported(
                    pid,
                    object(tid),
                    "it asks another program about system calls (SECCOMP_RET_USER_NOTIF), and listeners cannot be saved",
                    "Run the program without that supervisor",
                ));
            }
            newest = Some(self.id(newest, filter));
            index += 1;
        }
        newest.map(SeccompV1::Filter).ok_or_else(|| refused(pid, tid, "the kernel shows no filter"))
    }

    fn id(&mut self, previous: Option<SeccompFilterId>, filter: Filter) -> SeccompFilterId {
        let key = (previous, filter);
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let id = SeccompFilterId(u32::try_from(self.records.len()).unwrap_or(u32::MAX));
        let Filter { log, program } = key.1.clone();
        self.records.push(SeccompFilterV1 { id, previous, log, program });
        self.known.insert(key, id);
        id
    }
}

/// SECCOMP_MODE_* of a thread.
fn mode(status: &Status) -> u64 {
    status.number("Seccomp").unwrap_or(0)
}

fn has_listener(filter: &Filter) -> bool {
    filter.program.iter().any(|instruction| {
        [LOAD, RETURN].contains(&(instruction & 0xffff)) && (instruction >> 32) & RET_ACTION == RET_USER_NOTIF
    })
}

fn object(tid: i32) -> String {
    format!("the seccomp filter of thread {tid}")
}

fn refused(pid: i32, tid: i32, why: &str) -> CaptureError {
    CaptureError::unsupported(
        pid,
        object(tid),
        format!("ckpt may neither read nor suspend it: {why}"),
        "Run ckpt as root, outside of containers and of seccomp filters, on a kernel with CONFIG_CHECKPOINT_RESTORE",
    )
}

/// Has a stopped thread's filters let our system calls pass, until it is let go.
pub(crate) fn suspend(pid: i32, tid: i32) -> CaptureResult<()> {
    let Err(error) = ptrace::set_options(tid, ptrace::O_SYSGOOD | ptrace::O_SUSPEND_SECCOMP) else {
        return Ok(());
    };
    if !seccomp::is_refusal(&error) {
        return Err(error.into());
    }
    // It does not matter to a thread without filters.
    if mode(&Status::of(pid, tid)?) == 0 { Ok(()) } else { Err(refused(pid, tid, &error.to_string())) }
}

/// What would keep us from saving the filters of running thread `tid`, if it has any.
pub(crate) fn check(pid: i32, tid: i32, status: &Status) -> CaptureResult<()> {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    if mode(status) == 0 {
        return Ok(());
    }
    let own = std::process::id().cast_signed();
    let own = Status::of(own, own)?;
    if own.mask("CapEff")? & CAP_SYS_ADMIN == 0 {
        return Err(refused(pid, tid, "ckpt has no CAP_SYS_ADMIN"));
    }
    if mode(&own) != 0 {
        return Err(refused(pid, tid, "ckpt runs under a filter itself"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_stored_once_under_each_that_was_there_before() {
        let mut filters = Filters::default();
        let filter = |k: u64| Filter { log: false, program: vec![k << 32 | RETURN] };
        let first = filters.id(None, filter(1));
        assert_eq!(filters.id(None, filter(1)), first);
        let second = filters.id(Some(first), filter(1));
        assert_ne!(second, first);
        assert_ne!(filters.id(None, Filter { log: true, ..filter(1) }), first);
        assert_eq!(filters.records().len(), 3);
        assert_eq!(filters.records()[1].previous, Some(first));
    }

    #[test]
    fn a_filter_with_a_listener_is_known() {
        let returning = |k: u64| Filter { log: false, program: vec![k << 32 | RETURN] };
        assert!(has_listener(&returning(RET_USER_NOTIF)));
        assert!(!has_listener(&returning(0x7fff_0000)));
    }
}
