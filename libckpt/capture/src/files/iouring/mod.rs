//! io_uring(7): instances that have nothing in flight, with their rings, registered files and buffers.
mod info;
mod quiesce;
mod user;

use super::{Context, FoundFile};
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{FileKindV1, IoUringV1, OpenFileId};
use ckpt_sys::io_uring::{self, COMPLETION, Layout, Question, SUBMISSION, setup};
use ckpt_sys::memory::ProcessMemory;
use ckpt_sys::proc::maps::{self, Mapping};
use ckpt_sys::{RemoteAddr, SysError, proc};
use info::RingInfo;
use nix::errno::Errno;
pub(crate) use quiesce::quiesce;
use std::os::unix::fs::MetadataExt;
pub(crate) use user::{Users, settle};

const LINK: &[u8] = b"anon_inode:[io_uring]";
/// Groups of provided buffers that are asked for.
const GROUPS: u32 = 256;
/// Registered files or buffers at most.
const SLOTS_MAX: usize = 1 << 16;
const CLOSE: &str =
    "Close it before saving, or let the program do without io_uring (for libuv: UV_USE_IO_URING=0)";

/// Whether a mapping is of a ring.
pub(crate) fn is_ring(mapping: &Mapping) -> bool {
    mapping.path == LINK
}

/// Saves an instance. Which thread may use it, if only one may, is told by [`settle`].
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let (pid, fd) = file.place;
    let info = RingInfo::read(pid, fd)?;
    let running = context.objects.is_none();
    if let Some((reason, remedy)) = info.refusal(running) {
        return Err(context.unsupported(file, reason, remedy));
    }
    let flags = flags(context, file)?;
    let layout = io_uring::layout(info.submissions, info.completions)?;
    let inode = file.meta.ino();
    let mappings: Vec<Mapping> =
        maps::maps(pid)?.into_iter().filter(|mapping| is_ring(mapping) && mapping.inode == inode).collect();
    let at = |offset: u64| mappings.iter().find(|mapping| mapping.offset == offset);
    let (Some(rings), Some(entries)) = (at(io_uring::OFFSET_RINGS), at(io_uring::OFFSET_ENTRIES)) else {
        return Err(context.unsupported(file, "the process has not mapped its rings", CLOSE));
    };
    let with_array = layout.array + 4 * u64::from(info.submissions);
    let all_entries = SUBMISSION * u64::from(info.submissions);
    let as_usual = |mapping: &Mapping, len: u64| mapping.end - mapping.start <= len.next_multiple_of(4096);
    if !as_usual(rings, with_array) || !as_usual(entries, all_entries) {
        return Err(context.unsupported(
            file,
            "its entries are longer than usual (IORING_SETUP_SQE128, IORING_SETUP_CQE32)",
            CLOSE,
        ));
    }
    let memory = ProcessMemory::open(pid)?;
    let whole = |mapping: &Mapping, len: u64| mapping.end - mapping.start >= len;
    if !whole(rings, layout.array) || !whole(entries, all_entries) {
        return Err(context.unsupported(file, "the process has mapped only a part of its rings", CLOSE));
    }
    let queues = Queues { memory: &memory, start: RemoteAddr::new(rings.start), layout };
    let array = if whole(rings, with_array) { queues.array()? } else { Vec::new() };
    let no_array = if array.is_empty() { setup::NO_SQARRAY } else { 0 };
    let unread = match queues.unread(info.completed)? {
        Some(unread) => unread,
        None => return Err(context.unsupported(file, "its queues are not as the kernel keeps them", CLOSE)),
    };
    if queues.word(layout.dropped)? != 0 || queues.word(layout.overflow)? != 0 {
        return Err(context.unsupported(file, "requests or completions of it have been lost", CLOSE));
    }
    Ok(FileKindV1::IoUring(Box::new(IoUringV1 {
        inode,
        flags: flags | no_array,
        user: (pid, pid),
        submissions: info.submissions,
        completions: info.completions,
        submitted: info.submitted,
        tail: queues.word(layout.tail)?,
        completion_head: queues.word(layout.completion_head)?,
        completion_flags: queues.word(layout.completion_flags)?,
        array,
        entries: trimmed(read(&memory, entries.start, all_entries)?),
        unread,
        files: files(context, file, &info)?,
        buffers: info.buffers,
    })))
}

/// What it was set up with, as far as that can be asked; what can be asked by one thread alone is asked later.
fn flags(context: &Context<'_>, file: &FoundFile) -> CaptureResult<u32> {
    let ask = |question: Question| question.ask(file.dup());
    let refuse = |reason: &str| Err(context.unsupported(file, reason, CLOSE));
    match ask(Question::Use) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(setup::SINGLE_ISSUER),
        Err(Errno::EACCES) => return refuse("it is restricted (IORING_REGISTER_RESTRICTIONS)"),
        Err(errno) => return Err(SysError::new("io_uring_register", context.index.name(file), errno).into()),
    }
    if let Err(reason) = refused_kind(|question| Ok(ask(question)), GROUPS)? {
        return refuse(reason);
    }
    let mut flags = 0;
    if ask(Question::Disabled) != Err(Errno::EBADFD) {
        flags |= setup::R_DISABLED;
    }
    if ask(Question::Deferred) == Err(Errno::EFAULT) {
        flags |= setup::SINGLE_ISSUER | setup::DEFER_TASKRUN;
    }
    Ok(flags)
}

/// Why an instance with such answers cannot be saved.
fn refused_kind(
    mut ask: impl FnMut(Question) -> CaptureResult<Result<(), Errno>>,
    groups: u32,
) -> CaptureResult<Result<(), &'static str>> {
    if ask(Question::Polled)? == Err(Errno::EINVAL) {
        return Ok(Err("it polls devices (IORING_SETUP_IOPOLL)"));
    }
    if ask(Question::Eventfd)? == Err(Errno::EBUSY) {
        return Ok(Err(
            "it signals an eventfd, and the kernel does not tell which (IORING_REGISTER_EVENTFD)",
        ));
    }
    if ask(Question::Disabled)? == Err(Errno::EBUSY) {
        return Ok(Err("it is restricted (IORING_REGISTER_RESTRICTIONS)"));
    }
    for group in 0..groups {
        if ask(Question::Group(group))? != Err(Errno::ENOENT) {
            return Ok(Err("it has groups of provided buffers, which the kernel does not show"));
        }
    }
    Ok(Ok(()))
}

/// The descriptions that are registered. The kernel shows their links only: one that several descriptors of the process may be is refused.
fn files(context: &Context<'_>, ring: &FoundFile, info: &RingInfo) -> CaptureResult<Vec<Option<OpenFileId>>> {
    if info.file_slots.max(info.buffers.len()) > SLOTS_MAX {
        return Err(context.unsupported(ring, "it has too many registered files or buffers", CLOSE));
    }
    let mut files = vec![None; info.file_slots];
    for (slot, link) in &info.files {
        let held = |file: &FoundFile| context.index.holders(file).iter().any(|(pid, _)| *pid == ring.place.0);
        let candidates: Vec<OpenFileId> =
            context.index.with_link(link).filter(|file| held(file)).map(|file| file.id).collect();
        let [found] = candidates[..] else {
            let which = if candidates.is_empty() { "no descriptor" } else { "several descriptors" };
            let link = String::from_utf8_lossy(link);
            return Err(context.unsupported(
                ring,
                format!("registered file {slot} ({link}) may be {which} of the process, and the kernel does not tell which"),
                "Let the program keep one descriptor of each registered file open, or register none",
            ));
        };
        if let Some(place) = files.get_mut(*slot) {
            *place = Some(found);
        }
    }
    Ok(files)
}

/// The queues in a process's memory.
struct Queues<'m> {
    memory: &'m ProcessMemory,
    start: RemoteAddr,
    layout: Layout,
}

impl Queues<'_> {
    fn word(&self, offset: u64) -> CaptureResult<u32> {
        let mut bytes = [0; 4];
        self.memory.read(self.start.offset(offset), &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// The array of numbers. A ring without one has zeros there, and is as well off with one where each entry has its own number.
    fn array(&self) -> CaptureResult<Vec<u32>> {
        let len = 4 * u64::from(self.layout.submissions);
        let bytes = read(self.memory, self.start.get() + self.layout.array, len)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok((0..self.layout.submissions).collect());
        }
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect())
    }

    /// The completions up to `tail` that were not read; None: the head is nowhere near.
    fn unread(&self, tail: u32) -> CaptureResult<Option<Vec<u8>>> {
        let head = self.word(self.layout.completion_head)?;
        let size = self.layout.completions;
        if tail.wrapping_sub(head) > size || self.word(self.layout.completion_tail)? != tail {
            return Ok(None);
        }
        let mut unread = Vec::new();
        let mut at = head;
        while at != tail {
            let offset = self.layout.entries + COMPLETION * u64::from(at & (size - 1));
            unread.extend(read(self.memory, self.start.get() + offset, COMPLETION)?);
            at = at.wrapping_add(1);
        }
        Ok(Some(unread))
    }
}

fn read(memory: &ProcessMemory, address: u64, len: u64) -> CaptureResult<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    memory.read(RemoteAddr::new(address), &mut bytes)?;
    Ok(bytes)
}

/// Without zeros at the end.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(len);
    bytes
}

/// The descriptors of instances that process `pid` has.
fn held_by(pid: i32) -> CaptureResult<Vec<i32>> {
    let is_ring = |fd: &i32| {
        use std::os::unix::ffi::OsStrExt;
        proc::read_link(pid, &format!("fd/{fd}")).is_ok_and(|link| link.as_os_str().as_bytes() == LINK)
    };
    Ok(super::index::list(pid)?.into_iter().filter(is_ring).collect())
}

fn refused(pid: i32, fd: i32, reason: impl Into<String>, remedy: &str) -> CaptureError {
    CaptureError::unsupported(pid, format!("fd {fd} (anon_inode:[io_uring])"), reason, remedy)
}
