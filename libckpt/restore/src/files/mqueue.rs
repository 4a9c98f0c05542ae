//! POSIX message queues: under their names, with their messages.
use super::Maker;
use super::common::show;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FileKindV1, MqueueV1, OpenFileV1};
use ckpt_sys::SysError;
use ckpt_sys::mqueue::{self, Attributes};
use nix::errno::Errno;
use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

/// The names of the queues that were made. They go again when this is dropped before [`Self::keep`].
#[derive(Debug, Default)]
pub(crate) struct Queues {
    made: Vec<Vec<u8>>,
}

impl Queues {
    /// They are the job's now.
    pub(crate) fn keep(&mut self) {
        self.made.clear();
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        for name in self.made.drain(..) {
            if let Err(error) = mqueue::unlink(&name) {
                tracing::warn!(%error, "a message queue stays");
            }
        }
    }
}

/// Makes all descriptors of queues.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let mut queues: HashMap<u64, Vec<(&OpenFileV1, &MqueueV1)>> = HashMap::new();
    for file in files {
        if let FileKindV1::Mqueue(end) = &file.kind {
            queues.entry(end.inode).or_default().push((file, end));
        }
    }
    let mut queues: Vec<_> = queues.into_values().collect();
    // A queue that has lost its name takes it for a moment.
    queues.sort_by_key(|ends| !ends[0].1.unlinked);
    let further = maker.further;
    for ends in queues {
        further.in_ipc_of(ends[0].0.id, |is_further| make_queue(maker, &ends, is_further))?;
    }
    Ok(())
}

/// Makes the descriptors of one queue, in whose IPC namespace this thread is; a further one goes, with its queues, should the restore fail.
fn make_queue(
    maker: &mut Maker<'_, '_>,
    ends: &[(&OpenFileV1, &MqueueV1)],
    is_further: bool,
) -> RestoreResult<()> {
    {
        let messages = ends.iter().map(|(_, end)| end.messages.as_slice()).find(|all| !all.is_empty());
        let record = ends[0].1;
        let mut name = record.name.clone();
        if record.unlinked && mqueue::open(&name, libc::O_RDWR).is_ok() {
            name = format!("ckpt-{}-{}", std::process::id(), record.inode).into_bytes();
        }
        let (queue, fill) = make(maker, record, &name)?;
        for message in messages.unwrap_or_default().iter().filter(|_| fill) {
            mqueue::send(queue.as_fd(), message)?;
        }
        for (file, _) in ends {
            let access = file.flags.cast_signed() & libc::O_ACCMODE;
            maker.made.insert(file.id, mqueue::open(&name, access)?);
        }
        if record.unlinked {
            mqueue::unlink(&name)?;
        }
        if record.unlinked || is_further {
            maker.contents.queues.made.retain(|made| *made != name);
        }
    }
    Ok(())
}

/// The queue of this name, and whether it is to be filled. One that a killed program left behind is taken, and emptied; of one that other processes
/// use, the contents are theirs as well.
fn make(maker: &mut Maker<'_, '_>, record: &MqueueV1, name: &[u8]) -> RestoreResult<(OwnedFd, bool)> {
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let wanted = Attributes {
        most_messages: size(record.most_messages),
        message_bytes: size(record.message_bytes),
        messages: 0,
    };
    let queue = match mqueue::create(name, record.mode, &wanted) {
        Ok(queue) => {
            maker.contents.queues.made.push(name.to_vec());
            queue
        }
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            let queue = mqueue::open(name, libc::O_RDWR | libc::O_NONBLOCK)?;
            let there = mqueue::attributes(queue.as_fd())?;
            if (there.most_messages, there.message_bytes) != (wanted.most_messages, wanted.message_bytes) {
                return Err(RestoreError::File {
                    path: path(name),
                    reason: "another message queue has the name of the program's".into(),
                    remedy: "Remove it (mq_unlink, or rm where a file system of type mqueue is mounted) and restore again".into(),
                });
            }
            let queue = File::from(queue);
            if let Some(user) = user(&queue)? {
                let queue_name = path(name);
                tracing::warn!(
                    queue_name,
                    user,
                    "another process uses a message queue of the job's: its messages stay as they are"
                );
                return Ok((queue.into(), false));
            }
            mqueue::drain(queue.as_fd())?;
            queue.into()
        }
        Err(error) => return Err(refused(name, record, &error)),
    };
    let file = File::from(queue);
    let failed = |error| SysError::new("fchmod", path(name), error);
    file.set_permissions(Permissions::from_mode(record.mode)).map_err(failed)?;
    if fchown(&file, Some(record.owner.0), Some(record.owner.1)).is_err() {
        tracing::debug!(owner = ?record.owner, "a message queue keeps our owner");
    }
    Ok((file.into(), true))
}

/// A process other than this one that has the queue open.
fn user(queue: &File) -> RestoreResult<Option<i32>> {
    let stat = |error| SysError::new("fstat", "a message queue", error);
    let wanted = queue.metadata().map_err(stat)?;
    let own = std::process::id().cast_signed();
    let Ok(processes) = fs::read_dir("/proc") else { return Ok(None) };
    for process in processes.flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else { continue };
        let is_it = |fd: fs::DirEntry| {
            fs::metadata(fd.path())
                .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
        };
        if fds.flatten().any(is_it) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

fn path(name: &[u8]) -> String {
    format!("message queue /{}", show(name))
}

fn refused(name: &[u8], record: &MqueueV1, error: &SysError) -> RestoreError {
    let remedy = match error.errno() {
        Some(Errno::EINVAL) => format!(
            "Raise the limits (sysctl fs.mqueue.msg_max={} fs.mqueue.msgsize_max={}) and restore again",
            record.most_messages, record.message_bytes
        ),
        Some(Errno::EMFILE) => {
            "Raise the limit of bytes in message queues (ulimit -q unlimited) and restore again".into()
        }
        Some(Errno::ENOSPC) => {
            "Raise the limit of queues (sysctl fs.mqueue.queues_max) and restore again".into()
        }
        _ => "Remove the cause and restore again".into(),
    };
    RestoreError::File {
        path: path(name),
        reason: format!("it cannot be made here: {}", error.source),
        remedy,
    }
}
