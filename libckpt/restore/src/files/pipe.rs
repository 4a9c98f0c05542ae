//! Pipes with what is in them.
use super::Maker;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FileKindV1, OpenFileId, OpenFileV1, PipeEndV1};
use ckpt_sys::{SysError, descriptor};
use nix::fcntl::OFlag;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Makes all pipes.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let mut pipes: BTreeMap<u64, Vec<(&OpenFileV1, &PipeEndV1)>> = BTreeMap::new();
    for file in files {
        if let FileKindV1::Pipe(end) = &file.kind {
            pipes.entry(end.inode).or_default().push((file, end));
        }
    }
    for ends in pipes.values() {
        maker.made.extend(make(ends)?);
    }
    Ok(())
}

fn make(ends: &[(&OpenFileV1, &PipeEndV1)]) -> RestoreResult<Vec<(OpenFileId, OwnedFd)>> {
    let (from, to) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|errno| SysError::new("pipe2", "a pipe", errno))?;
    for (_, end) in ends {
        fill(to.as_fd(), end)?;
    }
    let (mut from, mut to) = (Some(from), Some(to));
    let mut made = Vec::with_capacity(ends.len());
    // The ends of the new pipe serve the first of each direction; further descriptions are opened by their links.
    let first_from = ends.iter().find(|(file, _)| access(file) == libc::O_RDONLY).map(|(file, _)| file.id);
    let first_to = ends.iter().find(|(file, _)| access(file) == libc::O_WRONLY).map(|(file, _)| file.id);
    for (file, _) in ends {
        if Some(file.id) == first_from || Some(file.id) == first_to {
            continue;
        }
        let Some(any) = from.as_ref().or(to.as_ref()) else { break };
        made.push((file.id, reopen(any, file)?));
    }
    if let (Some(id), Some(from)) = (first_from, from.take()) {
        made.push((id, from));
    }
    if let (Some(id), Some(to)) = (first_to, to.take()) {
        made.push((id, to));
    }
    Ok(made)
}

fn access(file: &OpenFileV1) -> i32 {
    file.flags.cast_signed() & libc::O_ACCMODE
}

fn reopen(end: &OwnedFd, file: &OpenFileV1) -> RestoreResult<OwnedFd> {
    let link = format!("/proc/self/fd/{}", end.as_raw_fd());
    let opened = descriptor::open(link.as_bytes(), access(file) | libc::O_NONBLOCK, 0);
    Ok(opened.map_err(|errno| SysError::new("open", link, errno))?)
}

/// Gives a pipe its capacity and contents through an end that can be written.
pub(super) fn fill(to: BorrowedFd<'_>, end: &PipeEndV1) -> RestoreResult<()> {
    if descriptor::pipe_capacity(to)? != end.capacity {
        descriptor::set_pipe_capacity(to, end.capacity)?;
    }
    if end.packets.is_empty() {
        return write(to, &end.data);
    }
    // A write to a pipe with O_DIRECT is a packet.
    descriptor::set_flags(to, libc::O_NONBLOCK | libc::O_DIRECT)?;
    let mut rest = end.data.as_slice();
    for len in &end.packets {
        let Some((packet, tail)) = rest.split_at_checked(usize::try_from(*len).unwrap_or(usize::MAX)) else {
            return Err(RestoreError::Inconsistent {
                what: "a pipe's packets are longer than its data".into(),
            });
        };
        write(to, packet)?;
        rest = tail;
    }
    descriptor::set_flags(to, libc::O_NONBLOCK)?;
    Ok(())
}

fn write(to: BorrowedFd<'_>, mut bytes: &[u8]) -> RestoreResult<()> {
    while !bytes.is_empty() {
        let written = nix::unistd::write(to, bytes)
            .map_err(|errno| SysError::new("write", format!("{} bytes to a pipe", bytes.len()), errno))?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
