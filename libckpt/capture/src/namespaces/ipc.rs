//! IPC namespaces that only some processes of the job are in: all that is there is the job's, but for what processes outside use.
use super::{IPC_SYSCTLS, sysctls};
use crate::error::{CaptureError, CaptureResult};
use crate::message_queue::capture_message_queues;
use crate::semaphores::capture_semaphores;
use ckpt_image::record::{IpcNamespaceV1, NamespaceContentsV1};
use ckpt_sys::proc::{maps, read_system_text};
use ckpt_sys::{sysv_msg, sysv_sem};

/// What is in the namespace that this thread and the processes `members` of the job with processes `pids` are in.
pub(super) fn capture(members: &[i32], pids: &[i32]) -> CaptureResult<NamespaceContentsV1> {
    for &pid in members {
        check_segments(pid)?;
    }
    // Its first line has headings.
    if read_system_text("sysvipc/shm")?.lines().count() > 1 {
        return Err(segment(members[0], "System V shared memory that nobody has attached"));
    }
    let sets: Vec<i32> = sysv_sem::list()?.iter().map(|set| set.id).collect();
    let queues: Vec<i32> = sysv_msg::list()?.iter().map(|queue| queue.id).collect();
    Ok(NamespaceContentsV1::Ipc {
        settings: IpcNamespaceV1 { sysctls: sysctls(&IPC_SYSCTLS) },
        semaphores: capture_semaphores(pids, &sets)?,
        queues: capture_message_queues(pids, &queues)?,
    })
}

/// Which namespace an attached segment is of the kernel does not tell: a process may have attached it before it went into another.
fn check_segments(pid: i32) -> CaptureResult<()> {
    let attached = maps::maps(pid)?.into_iter().find(|mapping| mapping.path.starts_with(b"/SYSV"));
    let name =
        |mapping: maps::Mapping| format!("System V shared memory at {:#x}-{:#x}", mapping.start, mapping.end);
    attached.map_or(Ok(()), |mapping| Err(segment(pid, &name(mapping))))
}

fn segment(pid: i32, what: &str) -> CaptureError {
    CaptureError::unsupported(
        pid,
        what,
        "the process is in an IPC namespace that the job's root is not in, where this cannot be saved yet",
        "Let the program share memory by a file or a memfd, or detach and remove it (shmdt, ipcrm) before saving",
    )
}
