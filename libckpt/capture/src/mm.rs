//! An address space: its mappings and what the kernel keeps besides.
use crate::aio;
use crate::error::{CaptureError, CaptureResult};
use crate::namespaces::Further;
use crate::objects::Objects;
use crate::process::Process;
use crate::userfaultfd;
use crate::vma::{self, Files, capture_vma};
use ckpt_dirty::{Tracker, Tracking, ranges};
use ckpt_image::record::{BackingV1, MmId, MmV1, VmaV1};
use ckpt_sys::inject::{Answers, Batch, Injector};
use ckpt_sys::proc::maps::Mapping;
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::{SysError, arch, proc, ptrace};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

const PR_GET_DUMPABLE: u64 = 3;
const PR_GET_THP_DISABLE: u64 = 42;

/// What only the process itself can tell of its address space.
#[derive(Debug)]
pub(crate) struct Told {
    brk: u64,
    dumpable: u32,
    thp_disable: bool,
}

/// Asks process `pid` for what only it can tell.
pub(crate) fn ask_mm(pid: i32, batch: &mut Batch) -> impl FnOnce(&Answers) -> CaptureResult<Told> + use<> {
    let brk = batch.call(libc::SYS_brk, &[0]);
    let [dumpable, thp_disable] = [PR_GET_DUMPABLE, PR_GET_THP_DISABLE]
        .map(|option| batch.call(libc::SYS_prctl, &[option, 0, 0, 0, 0]));
    move |answers| {
        let prctl =
            |call| answers.outcome(call).map_err(|errno| CaptureError::Remote { pid, call: "prctl", errno });
        Ok(Told {
            brk: answers.outcome(brk).unwrap_or(0),
            dumpable: u32::try_from(prctl(dumpable)?).unwrap_or(0),
            thp_disable: prctl(thp_disable)? != 0,
        })
    }
}

/// The id of the address space of process `pid`, the same in all checkpoints of a chain: pages refer to it.
pub(crate) fn id(pid: i32) -> MmId {
    MmId(pid.unsigned_abs())
}

/// Describes the address space of a frozen process; its pages are copied by [`crate::pages::copy`]. Sees to it that the process is tracked from
/// now on, if that is possible. `before`: its mappings shortly before the freeze. Also gives its mappings as they are.
pub(crate) fn capture_mm(
    process: &Process,
    injector: &mut Injector<'_>,
    told: &Told,
    tracking: &mut Tracking,
    objects: &mut Objects,
    before: &[Mapping],
) -> CaptureResult<(MmV1, Vec<Mapping>)> {
    let pid = process.pid;
    let tracker = tracking.tracker(pid);
    tracker.verify()?;
    // What we track it could not register.
    let handles_faults = objects.userfaultfds.handles(pid);
    if handles_faults {
        tracker.detach()?;
    } else {
        tracker.attach(injector)?;
    }
    let files = Files::new(&objects.further)?;
    let mut vmas = Vec::new();
    // Nothing but their flags tells that mappings have been registered since.
    let before = if handles_faults { &[] } else { before };
    let mappings = vma::mappings(pid, &[injector.scratch().range()], before)?;
    let ours = tracked_by_us(tracker, &mappings);
    for mapping in &mappings {
        let registered = objects.userfaultfds.add_area(pid, mapping);
        if !registered {
            check_tracking(tracker, mapping, &ours)?;
        }
        let mut vma = capture_vma(injector, mapping, &files, objects)?;
        if registered {
            userfaultfd::settle(objects, pid, mapping, &vma.backing)?;
        }
        if let BackingV1::AioRing(ring) = &mut vma.backing {
            *ring = aio::capture_ring(injector, mapping)?;
        }
        vmas.push(vma);
    }
    let (exe, exe_ident) = capture_exe(pid, &objects.further, &vmas)?;
    let mm = MmV1 {
        id: id(pid),
        layout: capture_layout(pid, told.brk)?,
        auxv: proc::read(pid, "auxv")?,
        exe,
        exe_ident,
        dumpable: told.dumpable,
        thp_disable: told.thp_disable,
        def_flags: 0,
        protection_keys: protection_keys(injector, &vmas)?,
        vmas,
    };
    Ok((mm, mappings))
}

/// Memory that nobody else tracks writes to: each thread has a mapping or two, which are asked for at once where they touch.
fn tracked_by_us(tracker: &Tracker, mappings: &[Mapping]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.has_flag(b"uw")) {
        ranges::push(&mut ranges, mapping.range());
    }
    ranges.retain(|range| !tracker.is_foreign(range.clone()));
    ranges
}

/// Refuses memory that is registered with a userfaultfd that is neither ours nor the job's. Of what is in `ours` it is known.
fn check_tracking(tracker: &Tracker, mapping: &Mapping, ours: &[Range<u64>]) -> CaptureResult<()> {
    if mapping.has_flag(b"um") || mapping.has_flag(b"ui") {
        let (reason, remedy) = (
            "its page faults are handled (userfaultfd) by a process that is not of the job",
            "Save the tree that has both, or when it has been unregistered",
        );
        return Err(vma::refusal(tracker.pid(), mapping, reason, remedy));
    }
    let is_ours = || !ranges::within(ours, &mapping.range()).is_empty();
    if mapping.has_flag(b"uw") && !is_ours() && tracker.is_foreign(mapping.range()) {
        let (reason, remedy) = (
            "a process that is not of the job, or another ckpt, tracks writes to it (userfaultfd)",
            "Save when that has ended, or through the daemon that protects the job",
        );
        return Err(vma::refusal(tracker.pid(), mapping, reason, remedy));
    }
    Ok(())
}

fn capture_layout(pid: i32, brk: u64) -> CaptureResult<[u64; 11]> {
    let stat = Stat::of(pid, proc::stand_in::of(pid))?;
    Ok([
        stat.startcode,
        stat.endcode,
        stat.start_data,
        stat.end_data,
        stat.start_brk,
        brk,
        stat.startstack,
        stat.arg_start,
        stat.arg_end,
        stat.env_start,
        stat.env_end,
    ])
}

fn capture_exe(
    pid: i32,
    further: &Further,
    vmas: &[ckpt_image::record::VmaV1],
) -> CaptureResult<(Vec<u8>, ckpt_image::record::FileIdent)> {
    let path = proc::path(pid, "exe");
    let meta = std::fs::metadata(&path).map_err(|error| SysError::new("stat", path, error))?;
    let ident = vma::ident(&meta);
    let link = proc::read_link(pid, "exe")?.into_os_string().into_vec();
    if vma::leads_to(&further.seen(pid, &link), &meta) {
        return Ok((link, ident));
    }
    // Its contents are kept as those of a mapping of it.
    let name = link.strip_suffix(b" (deleted)").unwrap_or(&link).to_vec();
    let mapped = vmas.iter().any(|vma| match &vma.backing {
        BackingV1::File { file, .. } => {
            file.ghost.is_some() && (file.ident.dev, file.ident.ino) == (ident.dev, ident.ino)
        }
        _ => false,
    });
    if mapped {
        return Ok((name, ident));
    }
    let object = format!("the program file {} (deleted)", String::from_utf8_lossy(&name));
    let reason = "it is gone, and no mapping of it is left to take it from";
    Err(CaptureError::unsupported(pid, object, reason, "Put the file back in its place"))
}

/// The protection keys that are allocated: those that the process is not given when it takes all that it can get, for the moment. It is asked
/// only if it shows any sign of using them.
fn protection_keys(injector: &mut Injector<'_>, vmas: &[VmaV1]) -> CaptureResult<u32> {
    const KEYS: u32 = 16;
    let xstate = ptrace::xstate(injector.tid())?;
    let Some(pkru) = arch::xstate_pkru(&xstate) else { return Ok(1) };
    if pkru == arch::PKRU_INITIAL && vmas.iter().all(|vma| vma.protection_key == 0) {
        return Ok(1);
    }
    let mut free = 0;
    while let Ok(key) = injector.syscall(libc::SYS_pkey_alloc, &[0, 0])? {
        free |= 1 << key;
    }
    for key in (0..KEYS).filter(|key| free & (1 << key) != 0) {
        let outcome = injector.syscall(libc::SYS_pkey_free, &[u64::from(key)])?;
        outcome.map_err(|errno| CaptureError::Remote { pid: injector.pid(), call: "pkey_free", errno })?;
    }
    // Taking a key changes the thread's rights.
    ptrace::set_xstate(injector.tid(), &xstate)?;
    Ok(0xffff & !free)
}
