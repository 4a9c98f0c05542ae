use super::{
    FileIdent, GhostId, IoUringV1, MqueueV1, OpenFileId, ShmemId, SocketV1, TerminalEndV1, TunV1,
    UserfaultfdV1,
};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// What an open file description is. New kinds go at the end: the tag is part of the format.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum FileKindV1 {
    /// A regular file, a directory or an O_PATH handle, opened again by path.
    Path {
        /// Path.
        path: Vec<u8>,
        /// Identity at capture.
        ident: FileIdent,
        /// The contents, when a regular file had no name any more.
        ghost: Option<GhostId>,
    },
    /// A character device without state: /dev/null, zero, full, random, urandom.
    Device {
        /// Path.
        path: Vec<u8>,
        /// Device number.
        rdev: u64,
    },
    /// One end of a pipe whose ends are all within the job.
    Pipe(PipeEndV1),
    /// A FIFO opened by path.
    Fifo {
        /// Path.
        path: Vec<u8>,
        /// Its pipe.
        pipe: PipeEndV1,
    },
    /// eventfd(2).
    Eventfd {
        /// Counter.
        count: u64,
        /// EFD_SEMAPHORE.
        semaphore: bool,
    },
    /// epoll(7).
    Epoll {
        /// What it watches.
        targets: Vec<EpollTargetV1>,
    },
    /// timerfd_create(2).
    Timerfd {
        /// Clock.
        clock: i32,
        /// Flags of timerfd_settime: an absolute timer of a settable clock keeps its date, others what was left.
        settime_flags: u32,
        /// Expirations not read yet.
        ticks: u64,
        /// What is left, ns; 0 is disarmed.
        value_ns: u64,
        /// Period, ns.
        interval_ns: u64,
    },
    /// signalfd(2).
    Signalfd {
        /// Signals that it reads.
        mask: u64,
    },
    /// inotify(7).
    Inotify {
        /// Watches.
        watches: Vec<InotifyWatchV1>,
        /// Events waited to be read, bytes. Reading them would take them from the running program, so restore puts one
        /// IN_Q_OVERFLOW in their place: "events were lost, look for yourself".
        unread: u32,
    },
    /// memfd_create(2).
    Memfd {
        /// The object.
        shmem: ShmemId,
    },
    /// A socket.
    Socket(Box<SocketV1>),
    /// An object whose other end is outside the job, standing at descriptor 0, 1 or 2 of the root task (a pipe to
    /// the shell): restore takes the restoring command's own descriptor of that number.
    Stdio {
        /// 0, 1 or 2.
        number: u32,
        /// What it was, for messages.
        was: String,
    },
    /// pidfd_open(2), of a process of the job.
    Pidfd {
        /// The process; less than 0: one that has ended and was waited for, the same for all descriptors of it.
        pid: i32,
        /// The exit status of such a one, as wait(2) has it, when the kernel tells.
        status: Option<i32>,
    },
    /// A terminal.
    Terminal(Box<TerminalEndV1>),
    /// A POSIX message queue.
    Mqueue(Box<MqueueV1>),
    /// An io_uring(7) instance.
    IoUring(Box<IoUringV1>),
    /// A fanotify(7) group with nothing to read.
    Fanotify {
        /// FAN_* that it was made with.
        flags: u32,
        /// O_* of the descriptors in its events.
        event_flags: u32,
        /// Marks.
        marks: Vec<FanotifyMarkV1>,
    },
    /// A BPF map that is a hash or an array.
    BpfMap(Box<BpfMapV1>),
    /// A namespace that a process of the job is in, or its children: a file of /proc/PID/ns.
    Namespace {
        /// The process.
        pid: i32,
        /// The file's name: `net`, `pid_for_children`.
        name: String,
    },
    /// /dev/net/tun.
    Tun(Box<TunV1>),
    /// userfaultfd(2).
    Userfaultfd(Box<UserfaultfdV1>),
}

/// One end of a pipe. All the ends with one inode are one pipe.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct PipeEndV1 {
    /// Inode: equal for all ends of one pipe.
    pub inode: u64,
    /// F_GETPIPE_SZ, bytes.
    pub capacity: u32,
    /// What is in it; on one end of each pipe only, empty on the others.
    pub data: Vec<u8>,
    /// Lengths of the packets in `data` for O_DIRECT pipes; else empty.
    pub packets: Vec<u32>,
}

/// One entry of an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct EpollTargetV1 {
    /// The number that it was added under.
    pub fd: i32,
    /// The open file description that it watches.
    pub file: OpenFileId,
    /// EPOLL*.
    pub events: u32,
    /// epoll_data.
    pub data: u64,
}

/// One inotify watch.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct InotifyWatchV1 {
    /// Watch descriptor.
    pub wd: i32,
    /// IN_* mask.
    pub mask: u32,
    /// Path of what it watches.
    pub path: Vec<u8>,
}

/// One mark of a fanotify group.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct FanotifyMarkV1 {
    /// FAN_MARK_*: MOUNT or FILESYSTEM, EVICTABLE, IGNORE, IGNORED_SURV_MODIFY.
    pub flags: u32,
    /// FAN_* events that are told.
    pub mask: u64,
    /// FAN_* events that are not.
    pub ignored: u64,
    /// Path of what is marked; of a mount or file system, of a mount point.
    pub path: Vec<u8>,
}

/// A BPF map.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct BpfMapV1 {
    /// Its id: equal for all descriptions of one map.
    pub id: u32,
    /// `BPF_MAP_TYPE_*`: 1 hash, 2 array.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries at most.
    pub max_entries: u32,
    /// `BPF_F_*` that it was made with.
    pub flags: u32,
    /// Name, filled up with zeros.
    pub name: [u8; 16],
    /// BPF_MAP_FREEZE.
    pub frozen: bool,
    /// Keys and values, one after the other; of several descriptions of one map the first has them.
    pub entries: Vec<u8>,
}
