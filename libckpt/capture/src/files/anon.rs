//! Descriptors without a file: the table of their kinds, and what is refused.
use super::{Context, Describe, FoundFile, epoll, eventfd, inotify, pidfd, signalfd, timerfd};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;

const CLOSE_FIRST: &str = "Close it before saving, or start the program so that it does without";

/// Kinds that can be saved, by link.
const SAVED: [(&[u8], Describe); 6] = [
    (b"anon_inode:[eventfd]", eventfd::describe),
    (b"anon_inode:[eventpoll]", epoll::describe),
    (b"anon_inode:[timerfd]", timerfd::describe),
    (b"anon_inode:[signalfd]", signalfd::describe),
    (b"anon_inode:inotify", inotify::describe),
    (b"anon_inode:[pidfd]", pidfd::describe),
];

/// Kinds that cannot, by a part of the link: what it is, and what to do about it.
const REFUSED: [(&str, &str, &str); 7] = [
    (
        "io_uring",
        "io_uring instances cannot be saved yet",
        "Let the program use epoll (for libuv: UV_USE_IO_URING=0)",
    ),
    ("userfaultfd", "userfaultfd instances cannot be saved yet", CLOSE_FIRST),
    ("perf_event", "performance counters cannot be saved", "End the profiler before saving"),
    ("bpf", "BPF objects cannot be saved yet", CLOSE_FIRST),
    ("fanotify", "fanotify groups cannot be saved yet", CLOSE_FIRST),
    ("kvm", "virtual machines of KVM cannot be saved", "Save the guest with its own hypervisor"),
    ("seccomp", "seccomp listeners cannot be saved", CLOSE_FIRST),
];

/// Who saves a description with this link.
pub(super) fn describer(link: &[u8]) -> Describe {
    SAVED.iter().find(|(name, _)| *name == link).map_or(unknown, |(_, describe)| *describe)
}

/// Refuses what no other file of this module knows.
pub(super) fn unknown(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let link = String::from_utf8_lossy(&file.link);
    let known = REFUSED.iter().find(|(part, ..)| link.contains(part));
    let (reason, remedy) = known
        .map_or(("this kind of descriptor cannot be saved yet", CLOSE_FIRST), |(_, reason, remedy)| {
            (*reason, *remedy)
        });
    Err(context.unsupported(file, reason, remedy))
}
