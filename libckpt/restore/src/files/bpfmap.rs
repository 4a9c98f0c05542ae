//! BPF maps: each made once, with a description for each that the job has of it.
use crate::error::RestoreResult;
use ckpt_image::record::{BpfMapV1, FileKindV1, OpenFileV1};
use ckpt_sys::bpf::{self, MapInfo, READ_ONLY, WRITE_ONLY};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

/// Makes the maps and the descriptions that the job has of them.
pub(super) fn make_all(maker: &mut super::Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let mut maps: HashMap<u32, (OwnedFd, u32)> = HashMap::new();
    for file in files {
        let FileKindV1::BpfMap(map) = &file.kind else { continue };
        let id = match maps.get(&map.id) {
            Some((_, id)) => *id,
            None => {
                // The first has the entries.
                let (made, id) = make(map)?;
                maps.insert(map.id, (made, id));
                id
            }
        };
        let access = match file.flags.cast_signed() & libc::O_ACCMODE {
            libc::O_RDONLY => READ_ONLY,
            libc::O_WRONLY => WRITE_ONLY,
            _ => 0,
        };
        maker.made.insert(file.id, bpf::open(id, access)?);
    }
    Ok(())
}

fn make(map: &BpfMapV1) -> RestoreResult<(OwnedFd, u32)> {
    let BpfMapV1 { kind, key_size, value_size, max_entries, flags, name, .. } = *map;
    let info = MapInfo { kind, id: 0, key_size, value_size, max_entries, flags, name, typed: false };
    let made = bpf::create(&info)?;
    let sizes = [key_size, value_size].map(|bytes| usize::try_from(bytes).unwrap_or(0));
    for entry in map.entries.chunks_exact((sizes[0] + sizes[1]).max(1)) {
        let (key, value) = entry.split_at(sizes[0]);
        bpf::update(made.as_fd(), &info, key, value)?;
    }
    if map.frozen {
        bpf::freeze(made.as_fd())?;
    }
    let id = bpf::info(made.as_fd())?.id;
    Ok((made, id))
}
