//! Why a capture did not happen.
use ckpt_sys::SysError;
use ckpt_sys::inject::InjectError;
use ckpt_sys::proc::stand_in;
use ckpt_sys::proc::stat::Stat;

/// A capture that failed. The target runs on as it was.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No such process.
    #[error("no process has pid {pid}")]
    NoProcess {
        /// Pid.
        pid: i32,
    },
    /// A thread of the kernel's.
    #[error("pid {pid} is a kernel thread: it has no memory or files of its own to save")]
    KernelThread {
        /// Pid.
        pid: i32,
    },
    /// Somebody else's process.
    #[error("pid {pid} belongs to user {owner}: run ckpt as that user or as root")]
    NotPermitted {
        /// Pid.
        pid: i32,
        /// Its user id.
        owner: u32,
    },
    /// A debugger has it.
    #[error("pid {pid} is traced by pid {tracer}{tracer_name}: end the debugger or strace first")]
    Traced {
        /// Pid.
        pid: i32,
        /// Tracer.
        tracer: i32,
        /// Its name in parentheses, with a space before it; or empty.
        tracer_name: String,
    },
    /// It ended while it was captured.
    #[error("pid {pid} exited during the capture; nothing was saved")]
    Exited {
        /// Pid.
        pid: i32,
    },
    /// A thread does not come out of the kernel.
    #[error(
        "thread {tid} of pid {pid} cannot be stopped: it waits in the kernel{place}. Try again when that wait is over \
         (a slow disk or network file system, a vfork child)"
    )]
    Stuck {
        /// Pid.
        pid: i32,
        /// Thread.
        tid: i32,
        /// Where, from /proc/PID/wchan: ` (in NAME)`; or empty.
        place: String,
    },
    /// It holds something that cannot be saved.
    #[error("pid {pid}: {object} cannot be saved: {reason}. {remedy}")]
    Unsupported {
        /// Pid.
        pid: i32,
        /// What: `fd 7 (anon_inode:[io_uring])`, `mapping 0x7f00-0x8f00 (/dev/dri/card0)`.
        object: String,
        /// Why.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] ckpt_image::StoreError),
    /// The kernel.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A remote system call could not be run.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// Dirty tracking.
    #[error(transparent)]
    Dirty(#[from] ckpt_dirty::DirtyError),
    /// A remote system call failed.
    #[error("{call} in pid {pid}: {errno}")]
    Remote {
        /// Process.
        pid: i32,
        /// Call.
        call: &'static str,
        /// Its answer.
        errno: nix::errno::Errno,
    },
}

/// Result of a step of a capture.
pub type CaptureResult<T> = Result<T, CaptureError>;

impl CaptureError {
    /// `object` of `pid` cannot be saved.
    pub fn unsupported(
        pid: i32,
        object: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Unsupported { pid, object: object.into(), reason: reason.into(), remedy: remedy.into() }
    }

    /// The same, said as the exit of `pid` where a thread or file of /proc was gone because the process has ended.
    #[must_use]
    pub(crate) fn or_exited(self, pid: i32) -> Self {
        // Of a process on its way out the kernel says now that it is gone, now that it may not be looked at.
        let told = matches!(self, Self::Sys(_) | Self::Inject(_) | Self::Dirty(_));
        let ended = || Stat::of(pid, pid).map_or(true, |stat| stat.is_exiting()) && !stand_in::look(pid);
        if told && ended() { Self::Exited { pid } } else { self }
    }
}
