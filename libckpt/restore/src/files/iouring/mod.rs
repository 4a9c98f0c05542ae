//! io_uring(7): made anew, with its rings where they were mapped.
//!
//! The kernel keeps the heads and tails of the queues for itself and counts up to 2^32. They come to where they were by as many requests that do nothing. These are made by
//! the thread that used the instance, for it may be the only one that the kernel lets.
mod place;

use super::common::show;
use super::{Maker, Site};
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{BackingV1, FileKindV1, IoUringV1, MmV1, OpenFileId, OpenFileV1, TaskV1, VmaV1};
use ckpt_sys::io_uring::{COMPLETION, Layout, OFFSET_ENTRIES, OFFSET_RINGS, Params, operation, setup};
use ckpt_sys::{RemoteAddr, pidfd};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// IORING_RSRC_REGISTER_SPARSE.
const SPARSE: u32 = 1;
/// Slots that are filled at once.
const CHUNK: usize = 2048;

/// An instance that was made and is not in use yet.
#[derive(Debug)]
struct Ring {
    id: OpenFileId,
    record: IoUringV1,
    layout: Layout,
    /// Its number in the process that it is to be used by.
    fd: u64,
    /// Where its parts are there.
    rings: RemoteAddr,
    entries: RemoteAddr,
    /// The numbers of the registered files there; -1 is none.
    files: Vec<i32>,
}

/// The instances of a job.
#[derive(Debug, Default)]
pub(crate) struct Rings(Vec<Ring>);

/// Makes all instances and maps their rings.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, files: &[OpenFileV1]) -> RestoreResult<()> {
    let mut spaces = None;
    for file in files {
        let FileKindV1::IoUring(record) = &file.kind else { continue };
        let spaces = match &mut spaces {
            Some(spaces) => spaces,
            none => none.insert(Spaces { tasks: maker.image.records()?, mms: maker.image.records()? }),
        };
        make(maker, file.id, record, spaces)?;
    }
    Ok(())
}

fn make(maker: &mut Maker<'_, '_>, id: OpenFileId, record: &IoUringV1, spaces: &Spaces) -> RestoreResult<()> {
    let missing = |what: &str| RestoreError::Inconsistent {
        what: format!("{what} of an io_uring instance is not in it"),
    };
    let pid = record.user.0;
    let at = maker.site_of(pid);
    let Site { builder, table, .. } = &mut maker.sites[at];
    let number = |id: OpenFileId| table.fds.iter().find(|fd| fd.file == id).map(|fd| fd.fd);
    let fd = number(id).ok_or_else(|| missing("the descriptor"))?;
    let files = record.files.iter().map(|file| match file {
        Some(file) => number(*file).ok_or_else(|| missing("a registered file")),
        None => Ok(-1),
    });
    let files = files.collect::<RestoreResult<Vec<i32>>>()?;
    let (made, layout) = set_up(builder, record)?;
    let find = |offset: u64| {
        let vma = spaces.rings(pid, record.inode).find(|(_, from)| *from == offset);
        vma.map(|(vma, _)| RemoteAddr::new(vma.start)).ok_or_else(|| missing("a mapping"))
    };
    let (rings, entries) = (find(OFFSET_RINGS)?, find(OFFSET_ENTRIES)?);
    for at in 0..maker.sites.len() {
        let pid = maker.sites[at].builder.remote.pid();
        let vmas: Vec<(&VmaV1, u64)> = spaces.rings(pid, record.inode).collect();
        if !vmas.is_empty() {
            maker.in_process(at, made.as_fd(), |builder, number| place::map(builder, &vmas, number))?;
        }
    }
    maker.made.insert(id, made);
    let fd = u64::from(fd.unsigned_abs());
    maker.rings.0.push(Ring { id, record: record.clone(), layout, fd, rings, entries, files });
    Ok(())
}

/// Has the process make an instance; ours then.
fn set_up(builder: &mut Builder<'_>, record: &IoUringV1) -> RestoreResult<(OwnedFd, Layout)> {
    let mut flags = record.flags;
    if flags & setup::SINGLE_ISSUER != 0 {
        // Until its thread is there.
        flags |= setup::R_DISABLED;
    }
    if flags & setup::DEFER_TASKRUN != 0 {
        // A program that does not look at the flag is not disturbed by it.
        flags |= setup::TASKRUN_FLAG;
    }
    let params = builder.place(&Params::new(flags, record.submissions, record.completions).to_bytes())?;
    let size = u64::from(record.submissions);
    let number = match builder.remote.syscall(libc::SYS_io_uring_setup, &[size, params.get()])? {
        Ok(number) => number,
        Err(errno) => {
            return Err(RestoreError::Machine {
                reason: format!("the program uses io_uring, and no instance can be made: {errno}"),
                remedy: "Allow it (sysctl kernel.io_uring_disabled=0; Linux 6.6 or later) and restore again"
                    .into(),
            });
        }
    };
    let mut bytes = [0; Params::SIZE];
    builder.remote.memory().read(params, &mut bytes)?;
    let process = pidfd::open_task(builder.remote.pid())?;
    let made = pidfd::getfd(process.as_fd(), i32::try_from(number).unwrap_or(-1))?;
    builder.call("close", &"an io_uring instance", libc::SYS_close, &[number])?;
    Ok((made, Params::from_bytes(&bytes).layout()))
}

/// The address spaces of the processes.
struct Spaces {
    tasks: Vec<TaskV1>,
    mms: Vec<MmV1>,
}

impl Spaces {
    /// The mappings that process `pid` has of an instance, and the offsets that they are from.
    fn rings(&self, pid: i32, wanted: u64) -> impl Iterator<Item = (&VmaV1, u64)> {
        let task = self.tasks.iter().find(|task| task.pid == pid);
        let mm = task.and_then(|task| self.mms.iter().find(|mm| mm.id == task.mm));
        mm.into_iter().flat_map(|mm| &mm.vmas).filter_map(move |vma| match vma.backing {
            BackingV1::IoUring { inode, offset } if inode == wanted => Some((vma, offset)),
            _ => None,
        })
    }
}

impl Rings {
    /// Whether a description is one of them.
    pub(super) fn contain(&self, id: OpenFileId) -> bool {
        self.0.iter().any(|ring| ring.id == id)
    }

    /// Gives the thread of `builder` the instances that are its to use, as they were.
    pub(crate) fn finish(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        let user = (builder.remote.pid(), builder.remote.tid());
        self.0.iter().filter(|ring| ring.record.user == user).try_for_each(|ring| ring.finish(builder))
    }
}

impl Ring {
    fn finish(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        let record = &self.record;
        if record.flags & setup::R_DISABLED == 0 {
            if record.flags & setup::SINGLE_ISSUER != 0 {
                self.register(builder, operation::ENABLE_RINGS, 0, 0)?;
            }
            self.advance(builder)?;
        }
        self.fill(builder)?;
        self.register_files(builder)?;
        self.register_buffers(builder)
    }

    fn object(&self) -> String {
        format!("fd {} ({})", self.fd, show(b"io_uring"))
    }

    fn set(&self, builder: &Builder<'_>, offset: u64, value: u32) -> RestoreResult<()> {
        Ok(builder.remote.memory().write(self.rings.offset(offset), &value.to_ne_bytes())?)
    }

    fn get(&self, builder: &Builder<'_>, offset: u64) -> RestoreResult<u32> {
        let mut bytes = [0; 4];
        builder.remote.memory().read(self.rings.offset(offset), &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// Brings both queues to where they were. An entry that is all zeros is a request that does nothing (IORING_OP_NOP).
    fn advance(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        let Self { record, layout, .. } = self;
        if record.flags & setup::NO_SQARRAY == 0 {
            let own: Vec<u8> = (0..record.submissions).flat_map(u32::to_ne_bytes).collect();
            builder.remote.memory().write(self.rings.offset(layout.array), &own)?;
        }
        let batch = record.submissions.min(record.completions);
        let mut done = 0;
        while done != record.submitted {
            let count = batch.min(record.submitted - done);
            self.set(builder, layout.tail, done + count)?;
            let args = [self.fd, u64::from(count), 0, 0, 0, 0];
            match builder.remote.syscall(libc::SYS_io_uring_enter, &args)? {
                Ok(taken) => done += u32::try_from(taken).unwrap_or(count).min(count),
                Err(Errno::EAGAIN | Errno::EBUSY | Errno::EINTR) => {}
                Err(errno) => {
                    let (pid, object) = (builder.remote.pid(), self.object());
                    return Err(RestoreError::Remote { pid, call: "io_uring_enter", object, errno });
                }
            }
            self.set(builder, layout.completion_head, done)?;
        }
        let now = (self.get(builder, layout.head)?, self.get(builder, layout.completion_tail)?);
        if now != (record.submitted, record.submitted) {
            let what =
                format!("{}: its queues stand at {now:?} in place of {}", self.object(), record.submitted);
            return Err(RestoreError::Inconsistent { what });
        }
        Ok(())
    }

    /// What waits in the queues.
    fn fill(&self, builder: &Builder<'_>) -> RestoreResult<()> {
        let Self { record, layout, .. } = self;
        let memory = builder.remote.memory();
        memory.write(self.entries, &record.entries)?;
        let array: Vec<u8> = record.array.iter().flat_map(|number| number.to_ne_bytes()).collect();
        memory.write(self.rings.offset(layout.array), &array)?;
        self.set(builder, layout.tail, record.tail)?;
        for (completion, at) in record.unread.as_chunks::<16>().0.iter().zip(0u32..) {
            let slot = record.completion_head.wrapping_add(at) & (record.completions - 1);
            let offset = layout.entries + COMPLETION * u64::from(slot);
            memory.write(self.rings.offset(offset), completion)?;
        }
        self.set(builder, layout.completion_head, record.completion_head)?;
        if record.completion_flags != 0 {
            self.set(builder, layout.completion_flags, record.completion_flags)?;
        }
        Ok(())
    }

    fn register(&self, builder: &mut Builder<'_>, operation: u64, at: u64, count: u64) -> RestoreResult<()> {
        let args = [self.fd, operation, at, count];
        builder.call("io_uring_register", &self.object(), libc::SYS_io_uring_register, &args).map(drop)
    }

    /// A table of `count` empty slots: `struct io_uring_rsrc_register`.
    fn register_slots(&self, builder: &mut Builder<'_>, operation: u64, count: usize) -> RestoreResult<()> {
        let mut request = u32::try_from(count).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
        request.extend(SPARSE.to_ne_bytes());
        request.resize(32, 0);
        let at = builder.place(&request)?.get();
        self.register(builder, operation, at, 32)
    }

    fn register_files(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        self.register_slots(builder, operation::FILES2, self.files.len())?;
        for (chunk, first) in self.files.chunks(CHUNK).zip((0u64..).step_by(CHUNK)) {
            let numbers: Vec<u8> = chunk.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
            let numbers = builder.place(&numbers)?.get();
            // struct io_uring_files_update: offset in 32 bits, 32 reserved, address.
            let request = [first.to_ne_bytes(), numbers.to_ne_bytes()].concat();
            let at = builder.place(&request)?.get();
            self.register(builder, operation::FILES_UPDATE, at, u64::try_from(chunk.len()).unwrap_or(0))?;
        }
        Ok(())
    }

    fn register_buffers(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        let buffers = &self.record.buffers;
        if buffers.is_empty() {
            return Ok(());
        }
        self.register_slots(builder, operation::BUFFERS2, buffers.len())?;
        for (chunk, first) in buffers.chunks(CHUNK).zip((0u64..).step_by(CHUNK)) {
            let places: Vec<u8> = chunk
                .iter()
                .flat_map(|(start, len)| [start.to_ne_bytes(), len.to_ne_bytes()].concat())
                .collect();
            let places = builder.place(&places)?.get();
            // struct io_uring_rsrc_update2: offset in 32 bits, 32 reserved, addresses of places and tags, count in 32 bits, 32 reserved.
            let count = u64::try_from(chunk.len()).unwrap_or(0);
            let request = [first, places, 0, count].map(u64::to_ne_bytes).concat();
            let at = builder.place(&request)?.get();
            self.register(builder, operation::BUFFERS_UPDATE, at, 32)?;
        }
        Ok(())
    }
}
