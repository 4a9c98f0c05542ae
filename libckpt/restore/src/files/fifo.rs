//! FIFOs: pipes with a name.
use super::common::open_flags;
use super::{Maker, path, pipe};
use crate::error::RestoreResult;
use ckpt_image::record::{FileKindV1, OpenFileId, OpenFileV1, PipeEndV1};
use ckpt_sys::descriptor;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// Opens all FIFOs again.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let mut fifos: BTreeMap<Cow<'_, [u8]>, Vec<(&OpenFileV1, &PipeEndV1)>> = BTreeMap::new();
    let links: BTreeMap<OpenFileId, Vec<u8>> = files
        .iter()
        .filter_map(|file| Some((file.id, maker.contents.nameless.link(file.id)?.to_vec())))
        .collect();
    for file in files {
        if let FileKindV1::Fifo { path, pipe } = &file.kind {
            let path = match links.get(&file.id) {
                Some(link) => link.as_slice().into(),
                None => maker.further.seen_for(file.id, path),
            };
            fifos.entry(path).or_default().push((file, pipe));
        }
    }
    for (name, ends) in &fifos {
        // With this descriptor for both directions no open waits for another side.
        let both = path::open(name, libc::O_RDWR | libc::O_NONBLOCK, libc::S_IFIFO, "the program")?;
        // A process outside the job may have kept it open, and its contents with it.
        if descriptor::readable_bytes(both.as_fd())? == 0 {
            for (_, pipe) in ends {
                pipe::fill(both.as_fd(), pipe)?;
            }
        }
        for (file, _) in ends {
            let flags = open_flags(file) | libc::O_NONBLOCK;
            maker.made.insert(file.id, path::open(name, flags, libc::S_IFIFO, "the program")?);
        }
    }
    Ok(())
}
