//! pipe(2).
use super::{Context, FoundFile, stdio};
use crate::error::CaptureResult;
use ckpt_image::record::{FileKindV1, PipeEndV1};
use ckpt_sys::{SysError, descriptor, socket};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Saves one end of a pipe.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let ends: Vec<Arc<FoundFile>> = context.index.with_link(&file.link).cloned().collect();
    let readable = ends.iter().any(|end| end.info.readable());
    let writable = ends.iter().any(|end| end.info.writable());
    // Hung up: the other side is closed everywhere.
    let alone = libc::POLLHUP | libc::POLLERR;
    if !(readable && writable) && socket::ready(file.dup()) & alone == 0 {
        return stdio::describe(
            context,
            file,
            |context| format!("its other end is outside the job{}", stdio::other_holder(context, &file.link)),
            "Start the program without that pipe, or save the processes at both ends as one job",
        );
    }
    Ok(FileKindV1::Pipe(capture_end(context, file, &ends)?))
}

/// Saves an end of the pipe whose ends in the job are `ends`. Its contents go to the readable end with the lowest id.
pub(super) fn capture_end(
    context: &Context<'_>,
    file: &FoundFile,
    ends: &[Arc<FoundFile>],
) -> CaptureResult<PipeEndV1> {
    let capacity = descriptor::pipe_capacity(file.dup())?;
    let reader = ends.iter().filter(|end| end.info.readable()).map(|end| end.id).min();
    let (data, packets) = if reader == Some(file.id) && context.objects.is_some() {
        contents(file, capacity)?
    } else {
        (Vec::new(), Vec::new())
    };
    Ok(PipeEndV1 { inode: file.meta.ino(), capacity, data, packets })
}

/// What is in a pipe, and the lengths of its packets if it has any. Nothing is taken from it.
fn contents(file: &FoundFile, capacity: u32) -> CaptureResult<(Vec<u8>, Vec<u32>)> {
    if descriptor::readable_bytes(file.dup())? == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let failed = |errno| SysError::new("pipe2", "for a copy of a pipe", errno);
    let (from, to) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(failed)?;
    descriptor::set_pipe_capacity(to.as_fd(), capacity)?;
    descriptor::tee(file.dup(), to.as_fd(), usize::try_from(i32::MAX).unwrap_or(0))?;
    drop(to);
    let mut copy = File::from(from);
    let mut data = Vec::new();
    let mut packets = Vec::new();
    // A packet is at most a page, and a read ends with it.
    let mut packet = [0; 4096];
    loop {
        match copy.read(&mut packet) {
            Ok(0) => break,
            Ok(len) => {
                data.extend_from_slice(&packet[..len]);
                packets.push(u32::try_from(len).unwrap_or(0));
            }
            Err(error) => return Err(SysError::new("read", "the copy of a pipe", error).into()),
        }
    }
    // Without packets a read fills the page, but for the last one.
    let plain = packets.split_last().is_none_or(|(_, full)| full.iter().all(|len| *len == 4096));
    Ok((data, if plain { Vec::new() } else { packets }))
}
