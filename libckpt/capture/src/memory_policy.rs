//! NUMA memory policies, of threads and of mappings. /proc/PID/numa_maps walks all pages, and shows a mapping that has no policy with that of the process; get_mempolicy(2)
//! takes no longer for a large mapping than for a small one. So all are asked for, in batches that are there anyway.
use crate::error::CaptureResult;
use ckpt_image::record::{PolicyV1, VmaV1};
use ckpt_sys::inject::{Answers, Batch, Injector};
use ckpt_sys::proc::maps::Mapping;
use ckpt_sys::proc::{self, status::Status};
use ckpt_sys::{SysResult, numa};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};

/// Mappings for one batch.
const MAPPINGS_AT_A_TIME: usize = 500;

/// Asks a thread for its policy; None: that of the machine.
pub(crate) fn ask_thread(batch: &mut Batch) -> impl FnOnce(&Answers) -> Option<PolicyV1> + use<> {
    let (mode, nodes) = (batch.reserve(8), batch.reserve(numa::NODES_SIZE));
    let args = [mode.address(), nodes.address(), numa::NODES_MAX, 0, 0];
    let asked = batch.call(libc::SYS_get_mempolicy, &args);
    move |answers| {
        // An error: a kernel without NUMA.
        answers.outcome(asked).ok()?;
        policy(answers.word(mode, 0), answers.bytes(nodes))
    }
}

/// None: the default.
fn policy(mode: u64, nodes: &[u8]) -> Option<PolicyV1> {
    let mode = u32::try_from(mode & u64::from(u32::MAX)).unwrap_or(0);
    (mode != numa::DEFAULT).then(|| PolicyV1 { mode, nodes: numa::nodes(nodes) })
}

/// Mappings that may have a policy, by their first bytes; None: all may. Threads under a filter of system calls are asked call by call, which takes long: of those the
/// kernel's list is read, before the pause.
#[derive(Debug, Default)]
pub(crate) struct Suspected(Option<BTreeSet<u64>>);

impl Suspected {
    /// Of process `pid`, which runs.
    pub(crate) fn read(pid: i32) -> SysResult<Self> {
        if Status::of(pid, pid)?.number("Seccomp").unwrap_or(0) == 0 {
            return Ok(Self(None));
        }
        match proc::read_text(pid, "numa_maps") {
            Ok(text) => Ok(Self(Some(text.lines().filter_map(with_policy).collect()))),
            // A kernel without NUMA.
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Self(Some(BTreeSet::new()))),
            Err(error) => Err(error),
        }
    }

    fn may_have(&self, mapping: &Mapping) -> bool {
        is_of_use(mapping) && self.0.as_ref().is_none_or(|places| places.contains(&mapping.start))
    }
}

/// The address in a line such as `7f8b56001000 interleave:0-1 anon=2 dirty=2 N0=2`, if there is a policy.
fn with_policy(line: &str) -> Option<u64> {
    let mut words = line.split(' ');
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    (words.next()? != "default").then_some(start)
}

/// Which mappings have a policy, by their first bytes.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<u64, bool>);

/// Asks which of the mappings have a policy, as far as there is room in a batch that has others' questions, too.
pub(crate) fn ask_mappings(
    mappings: &[Mapping],
    suspected: &Suspected,
    batch: &mut Batch,
) -> impl FnOnce(&Answers) -> Told + use<> {
    let wanted = mappings.iter().filter(|mapping| suspected.may_have(mapping)).map(|mapping| mapping.start);
    let wanted: Vec<u64> = wanted.take(MAPPINGS_AT_A_TIME).collect();
    ask(&wanted, batch)
}

fn ask(places: &[u64], batch: &mut Batch) -> impl FnOnce(&Answers) -> Told + use<> {
    let mut one = |&at: &u64| {
        let mode = batch.reserve(8);
        (at, mode, batch.call(libc::SYS_get_mempolicy, &[mode.address(), 0, 0, at, numa::OF_ADDRESS]))
    };
    let asked: Vec<_> = places.iter().map(&mut one).collect();
    move |answers| {
        let has = |mode, call| answers.outcome(call).is_ok() && policy(answers.word(mode, 0), &[]).is_some();
        Told(asked.into_iter().map(|(at, mode, call)| (at, has(mode, call))).collect())
    }
}

/// What a private mapping of a file that may not be written shows is the file's, which has a policy of its own.
fn is_of_use(mapping: &Mapping) -> bool {
    let is_kernels = matches!(&mapping.path[..], b"[vdso]" | b"[vvar]" | b"[vvar_vclock]" | b"[vsyscall]");
    let is_files =
        mapping.inode != 0 && !mapping.shared && mapping.prot & libc::PROT_WRITE.unsigned_abs() == 0;
    !is_kernels && !is_files
}

/// The policies of the mappings `vmas`, which are these `mappings`; `told`: what was asked of those that there were before.
pub(crate) fn capture_mappings(
    injector: &mut Injector<'_>,
    (suspected, told): (&Suspected, &mut Told),
    (vmas, mappings): (&[VmaV1], &[Mapping]),
) -> CaptureResult<Vec<(u64, u64, PolicyV1)>> {
    let missing = |mapping: &&Mapping| suspected.may_have(mapping) && !told.0.contains_key(&mapping.start);
    let missing: Vec<u64> = mappings.iter().filter(missing).map(|mapping| mapping.start).collect();
    for places in missing.chunks(MAPPINGS_AT_A_TIME) {
        let mut batch = injector.batch();
        let asked = ask(places, &mut batch);
        told.0.extend(asked(&injector.run(batch)?).0);
    }
    let mut found = Vec::new();
    for vma in vmas.iter().filter(|vma| told.0.get(&vma.start) == Some(&true)) {
        let mut batch = injector.batch();
        let (mode, nodes) = (batch.reserve(8), batch.reserve(numa::NODES_SIZE));
        let args = [mode.address(), nodes.address(), numa::NODES_MAX, vma.start, numa::OF_ADDRESS];
        let asked = batch.call(libc::SYS_get_mempolicy, &args);
        let answers = injector.run(batch)?;
        if answers.outcome(asked).is_ok() {
            let policy = policy(answers.word(mode, 0), answers.bytes(nodes));
            found.extend(policy.map(|policy| (vma.start, vma.end, policy)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_numa_maps() {
        assert_eq!(with_policy("7f8b56001000 interleave=static:0-1 anon=2 N0=2"), Some(0x7f8b_5600_1000));
        assert_eq!(with_policy("56232cfdb000 default file=/usr/bin/head mapped=2 N0=2"), None);
        assert_eq!(with_policy("7f00 local"), Some(0x7f00));
    }
}
