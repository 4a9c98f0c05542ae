//! POSIX message queues.
use super::index::show;
use super::{Context, FoundFile, stdio};
use crate::error::CaptureResult;
use ckpt_image::record::{FileKindV1, MqueueV1};
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::{SysError, mqueue};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// Saves a descriptor of a queue. Its messages go to the one with the lowest id.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let queue = mqueue::reopen(file.dup())?;
    let attributes = mqueue::attributes(queue.as_fd())?;
    if let Some(pid) = mqueue::notified(queue.as_fd())? {
        return Err(context.unsupported(
            file,
            format!("process {pid} waits to be notified of a message (mq_notify), and the kernel does not tell with what value"),
            "Let the program use epoll or a thread that waits in mq_receive, or save when there is no registration",
        ));
    }
    if attributes.messages == attributes.most_messages {
        // When we take a message, one that somebody waits to send gets its place.
        let holder = stdio::other_holder(context, &file.link);
        if !holder.is_empty() {
            return Err(context.unsupported(
                file,
                format!("the queue is full, and a process outside the job{holder} may wait to send"),
                "Try again when messages have been read",
            ));
        }
    }
    let same = context.index.files().iter();
    let same =
        same.filter(|other| (other.meta.dev(), other.meta.ino()) == (file.meta.dev(), file.meta.ino()));
    let first = same.map(|other| other.id).min() == Some(file.id);
    let messages = if first && context.objects.is_some() { mqueue::look(queue.as_fd())? } else { Vec::new() };
    let unlinked = file.meta.nlink() == 0;
    let path = if unlinked { file.path() } else { &file.link };
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    note_namespace(context, file, name)?;
    tracing::debug!(name = show(name), messages = messages.len(), "a message queue was looked at");
    let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    Ok(FileKindV1::Mqueue(Box::new(MqueueV1 {
        inode: file.meta.ino(),
        name: name.to_vec(),
        unlinked,
        mode: file.meta.mode() & 0o7777,
        owner: (file.meta.uid(), file.meta.gid()),
        most_messages: number(attributes.most_messages),
        message_bytes: number(attributes.message_bytes),
        messages,
    })))
}

/// Notes the IPC namespace of a queue, if it is not the root's. The kernel does not tell: it is the one where its name leads to it.
fn note_namespace(context: &mut Context<'_>, file: &FoundFile, name: &[u8]) -> CaptureResult<()> {
    let further = context.index.further();
    let Some(own) = further.of(Namespace::Ipc, context.index.holder(file)) else { return Ok(()) };
    let leads = |at| -> CaptureResult<bool> {
        namespace::within(Namespace::Ipc, further.place(at), || {
            let Ok(found) = mqueue::open(name, libc::O_RDONLY | libc::O_NONBLOCK) else { return Ok(false) };
            let meta = File::from(found).metadata();
            let meta = meta.map_err(|error| SysError::new("fstat", show(&file.link), error))?;
            Ok((meta.dev(), meta.ino()) == (file.meta.dev(), file.meta.ino()))
        })
    };
    if leads(Some(own))? {
        if let Some(objects) = &mut context.objects {
            objects.further_files.push((file.id, own));
        }
        return Ok(());
    }
    if leads(None)? {
        return Ok(());
    }
    Err(context.unsupported(
        file,
        "the process is in an IPC namespace that the job's root is not in, and the queue has no name there by which it is found",
        "Close it before saving, or do not remove its name (mq_unlink)",
    ))
}
