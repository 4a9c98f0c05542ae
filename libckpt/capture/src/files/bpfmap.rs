//! BPF maps: hashes and arrays, with their entries.
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::{BpfMapV1, FileKindV1};
use ckpt_sys::bpf::{self, MAP_TYPE_ARRAY, MAP_TYPE_HASH};
use std::os::fd::AsFd;

/// Bytes of entries at most.
const SIZE_MAX: u64 = 64 << 20;
/// BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_F_MMAPABLE.
const KNOWN_FLAGS: u32 = 0x581;
/// BPF_F_NUMA_NODE: the kernel does not tell which node it is.
const ON_NODE: u32 = 0x4;
const CLOSE: &str = "Close it before saving";

/// Saves a map.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let info = bpf::info(file.dup())?;
    if ![MAP_TYPE_HASH, MAP_TYPE_ARRAY].contains(&info.kind) {
        let reason = format!("BPF maps of type {} cannot be saved: only hashes and arrays can", info.kind);
        return Err(context.unsupported(file, reason, CLOSE));
    }
    if info.typed {
        return Err(context.unsupported(
            file,
            "it belongs to a device or has a description of its types (BTF)",
            CLOSE,
        ));
    }
    let kept = if has_one_node() { KNOWN_FLAGS | ON_NODE } else { KNOWN_FLAGS };
    if info.flags & !kept != 0 {
        let reason = format!("it was made with flags that cannot be kept ({:#x})", info.flags);
        return Err(context.unsupported(file, reason, CLOSE));
    }
    let size = u64::from(info.max_entries) * (u64::from(info.key_size) + u64::from(info.value_size));
    if size > SIZE_MAX {
        let reason = format!("it may hold {} MiB", size >> 20);
        return Err(context.unsupported(file, reason, CLOSE));
    }
    let first = context.bpf_maps.insert(info.id);
    let entries = if first && context.objects.is_some() {
        // The job's descriptor may be for writing only.
        let own = bpf::open(info.id, 0)?;
        bpf::entries(own.as_fd(), &info)?
    } else {
        Vec::new()
    };
    Ok(FileKindV1::BpfMap(Box::new(BpfMapV1 {
        id: info.id,
        kind: info.kind,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        flags: info.flags,
        name: info.name,
        frozen: file.info.field("frozen").is_some_and(|frozen| frozen != "0"),
        entries,
    })))
}

/// Whether this machine's memory is all of NUMA node 0.
fn has_one_node() -> bool {
    std::fs::read_to_string("/sys/devices/system/node/online").map_or(true, |nodes| nodes.trim() == "0")
}
