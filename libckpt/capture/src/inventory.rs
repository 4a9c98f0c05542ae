//! What the image is of and where it was taken.
use crate::error::CaptureResult;
use ckpt_image::page::PAGE_SIZE;
use ckpt_image::record::InventoryV1;
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps;
use ckpt_sys::{RemoteAddr, arch};

/// A clock's time, ns.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and valid for writing.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The inventory of `job`, whose root process is `pid`; `xstate` is a thread's extended state.
pub(crate) fn capture_inventory(
    job: &str,
    pid: i32,
    memory: &ProcessMemory,
    xstate: &[u8],
) -> CaptureResult<InventoryV1> {
    let name = nix::sys::utsname::uname()
        .map_err(|errno| ckpt_sys::SysError::new("uname", "this machine", errno))?;
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Ok(InventoryV1 {
        job: job.to_owned(),
        root_pid: pid,
        ckpt_version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: text(name.machine()),
        kernel_release: text(name.release()),
        hostname: text(name.nodename()),
        boot_id: boot_id.trim().to_owned(),
        page_size: u32::try_from(PAGE_SIZE).unwrap_or(0),
        xstate_size: u32::try_from(xstate.len()).unwrap_or(0),
        xcr0: arch::xstate_xcr0(xstate),
        cpu_model: cpu_model(),
        realtime_ns: clock_ns(libc::CLOCK_REALTIME),
        monotonic_ns: clock_ns(libc::CLOCK_MONOTONIC),
        boottime_ns: clock_ns(libc::CLOCK_BOOTTIME),
        vdso_hash: vdso_hash(pid, memory)?,
    })
}

/// Sets the time of the checkpoint to now, when all that is told relative to it has been read: else a timer would go off early after a restore. The ns that have
/// passed since the time that it had.
pub(crate) fn set_time(inventory: &mut InventoryV1) -> u64 {
    let before = inventory.monotonic_ns;
    inventory.realtime_ns = clock_ns(libc::CLOCK_REALTIME);
    inventory.monotonic_ns = clock_ns(libc::CLOCK_MONOTONIC);
    inventory.boottime_ns = clock_ns(libc::CLOCK_BOOTTIME);
    u64::try_from(inventory.monotonic_ns - before).unwrap_or(0)
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, model)| model.trim().to_owned())
}

fn vdso_hash(pid: i32, memory: &ProcessMemory) -> CaptureResult<[u8; 32]> {
    let Some(range) = maps::find_special(pid, b"[vdso]")? else { return Ok([0; 32]) };
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    memory.read(RemoteAddr::new(range.start), &mut bytes)?;
    Ok(*blake3::hash(&bytes).as_bytes())
}
