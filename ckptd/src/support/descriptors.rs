//! Open files, sockets excepted.
use super::Answer::*;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("regular files and directories", Saved, "by path, with position, flags and owner; the contents stay as they are on disk. Restore compares them (build-id, else a hash of files up to 16 MiB and of samples of larger ones; size and time of modification of those that the job can write to): code that differs is refused, data that differs is told, and `--files check` or `keep` decides otherwise").criu("saved").dmtcp("saved").holds(&["FileKindV1::Path", "OpenFileV1", "NamedFileV1"]),
    row("descriptions shared by dup, O_PATH, close-on-exec", Saved, "").criu("saved").holds(&["FdTableV1"]),
    row("deleted files", Saved, "with their contents").criu("up to 1 MiB; above: with an option").holds(&["GhostV1"]),
    row("locks: POSIX, flock, open file description", Saved, "").criu("with an option"),
    row("/dev/null, zero, full, random, urandom", Saved, "").criu("saved").holds(&["FileKindV1::Device"]),
    row("pipes and FIFOs, with what is in them, packets too", Saved, "").criu("saved; refused: packets").holds(&["FileKindV1::Pipe", "FileKindV1::Fifo"]),
    row("eventfd, timerfd, signalfd", Saved, "").criu("saved").dmtcp("eventfd, signalfd").holds(&["FileKindV1::Eventfd", "FileKindV1::Timerfd", "FileKindV1::Signalfd"]),
    row("POSIX message queues: by name or without one, with attributes, owner and messages", Saved, "the kernel shows messages only to who takes them: for some microseconds they are out of the queue, and a process outside the job that looks just then finds it empty. A queue that another process uses at the restore keeps the messages that it has by then. Refused: a registration for notification (mq_notify), a full queue that a process outside has open").criu("refused unless empty").holds(&["FileKindV1::Mqueue"]),
    row("epoll", Saved, "entries whose number is closed or another's by now, too. An EPOLLONESHOT entry that has fired on a file that is neither readable nor writable at the restore is told of errors and hang-ups").criu("saved").dmtcp("saved").holds(&["FileKindV1::Epoll"]),
    row("inotify", Changed, "events that had not been read are replaced by one IN_Q_OVERFLOW").criu("saved").dmtcp("not as it is built").holds(&["FileKindV1::Inotify"]),
    row("a pipe or socket whose other end is outside the job, as descriptor 0, 1 or 2", Changed, "the restoring command's own descriptor takes its place").criu("with an option (terminals, inherited descriptors)").holds(&["FileKindV1::Stdio"]),
    row("the same under other numbers", Refused, "").criu("with an option"),
    row("pidfds of processes of the job, zombies included, and of processes that have ended", Saved, "those of ended ones tell the same exit status (before Linux 6.15: 0), but no two of them that they are of one process; refused: of processes outside of the job, of single threads (`PIDFD_THREAD`) other than the main one").criu("saved").dmtcp("no").holds(&["FileKindV1::Pidfd"]),
    row("kernel AIO (io_setup): contexts under their ids, with events that were not read", Saved, "requests in flight are waited for; refused if the block devices are busy for 2 s. An `IOCB_CMD_POLL` in flight is not shown by the kernel, and lost. A child that has inherited its parent's ring without the context: refused").criu("saved").holds(&["BackingV1::AioRing"]),
    row("io_uring, userfaultfd, fanotify, perf, bpf, other devices", Refused, "").criu("saved: fanotify, some BPF maps; else refused").dmtcp("no: io_uring, userfaultfd, fanotify, perf; else —"),
];
