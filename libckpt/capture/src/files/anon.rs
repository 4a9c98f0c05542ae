//! Descriptors without a file: the table of their kinds, and what is refused.
use super::{
    Context, Describe, FoundFile, bpfmap, epoll, eventfd, fanotify, inotify, iouring, pidfd, signalfd,
    timerfd, userfaultfd,
};
use crate::error::CaptureResult;
use crate::userfaultfd::LINK;
use ckpt_image::record::FileKindV1;

const CLOSE_FIRST: &str = "Close it before saving, or start the program so that it does without";

const UNLOAD_FIRST: &str = "Close it before saving (pinned in a BPF file system it stays loaded)";

/// Kinds that can be saved, by link.
const SAVED: [(&[u8], Describe); 10] = [
    (b"anon_inode:[eventfd]", eventfd::describe),
    (b"anon_inode:[eventpoll]", epoll::describe),
    (b"anon_inode:[timerfd]", timerfd::describe),
    (b"anon_inode:[signalfd]", signalfd::describe),
    (b"anon_inode:inotify", inotify::describe),
    (b"anon_inode:[pidfd]", pidfd::describe),
    (b"anon_inode:[io_uring]", iouring::describe),
    (b"anon_inode:[fanotify]", fanotify::describe),
    (b"anon_inode:bpf-map", bpfmap::describe),
    (LINK, userfaultfd::describe),
];

/// Kinds that cannot, by a part of the link: what it is, and what to do about it.
const REFUSED: [(&str, &str, &str); 10] = [
    (
        "perf_event",
        "the kernel does not show what a performance counter counts",
        "End the profiler before saving",
    ),
    ("bpf-prog", "the kernel does not give a BPF program back as it was loaded", UNLOAD_FIRST),
    ("bpf_link", "the kernel does not show all that a BPF link was made with", UNLOAD_FIRST),
    ("bpf", "BPF objects cannot be saved", UNLOAD_FIRST),
    ("kvm", "virtual machines of KVM cannot be saved", "Save the guest with its own hypervisor"),
    (
        "seccomp",
        "it decides about system calls of other programs (seccomp listener), which wait for its answers",
        "End the supervisor or what it supervises before saving",
    ),
    (
        "landlock",
        "the kernel does not show the rules of a Landlock ruleset",
        "Let the program close it when it has restricted itself (landlock_restrict_self)",
    ),
    ("fscontext", "a file system that is about to be mounted cannot be saved", CLOSE_FIRST),
    ("vfio", "a device that the program drives itself cannot be saved", CLOSE_FIRST),
    ("dmabuf", "memory of a device cannot be saved", CLOSE_FIRST),
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
