use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// What the image is of, and on what machine it was taken. The first record of every image.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct InventoryV1 {
    /// The job's name.
    pub job: String,
    /// The pid of the job's root task, in the job's PID namespace.
    pub root_pid: i32,
    /// Version of the ckpt that wrote the image.
    pub ckpt_version: String,
    /// `uname -m`.
    pub machine: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -n`.
    pub hostname: String,
    /// `/proc/sys/kernel/random/boot_id`: monotonic clocks compare only within one boot.
    pub boot_id: String,
    /// Bytes a page.
    pub page_size: u32,
    /// Bytes of the XSAVE area in standard format and the features it may hold (XCR0), as the threads' records have it.
    pub xstate_size: u32,
    /// XCR0.
    pub xcr0: u64,
    /// CPU vendor and model from /proc/cpuinfo.
    pub cpu_model: String,
    /// CLOCK_REALTIME at the freeze, ns since the epoch.
    pub realtime_ns: i64,
    /// CLOCK_MONOTONIC at the freeze, ns.
    pub monotonic_ns: i64,
    /// CLOCK_BOOTTIME at the freeze, ns.
    pub boottime_ns: i64,
    /// BLAKE3 of the vDSO's bytes: a kernel with another vDSO cannot take these registers back as they are.
    pub vdso_hash: [u8; 32],
}
