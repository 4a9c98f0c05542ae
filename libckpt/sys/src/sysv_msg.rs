//! System V message queues: msgget(2), msgctl(2), msgsnd(2), msgrcv(2).
use crate::error::{SysError, SysResult};
use crate::sysv::{self, Entry};
use nix::errno::Errno;

pub use crate::sysv::is_missing;

/// The sysctl that chooses the id of the next queue.
const NEXT_ID: &str = "/proc/sys/kernel/msg_next_id";
const LIST: &str = "/proc/sysvipc/msg";
/// Bytes that a message of a queue may have at most.
const MOST_BYTES: &str = "/proc/sys/kernel/msgmax";
/// Of msgrcv(2): the message of this number is copied and stays.
const MSG_COPY: i32 = 0o40000;
/// Bytes of `mtype` before a message's text.
const TYPE_BYTES: usize = 8;

/// A message queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Id.
    pub id: i32,
    /// Key; 0 is IPC_PRIVATE.
    pub key: i32,
    /// Permission bits.
    pub mode: u32,
    /// The processes that were the last to send and to receive; 0 when none did.
    pub last_users: (i32, i32),
    /// Owner: user and group id.
    pub owner: (u32, u32),
}

fn failed(call: &'static str, id: i32) -> SysError {
    SysError::last(call, object(id))
}

fn object(id: i32) -> String {
    format!("message queue {id}")
}

/// All queues of our IPC namespace.
pub fn list() -> SysResult<Vec<Queue>> {
    Ok(sysv::list(LIST)?.iter().filter_map(queue).collect())
}

/// `key msqid perms cbytes qnum lspid lrpid uid gid ...`.
fn queue(entry: &Entry) -> Option<Queue> {
    let [_, _, sender, receiver, uid, gid, ..] = entry.rest[..] else { return None };
    Some(Queue {
        id: entry.id,
        key: entry.key,
        mode: entry.mode,
        last_users: (i32::try_from(sender).ok()?, i32::try_from(receiver).ok()?),
        owner: (u32::try_from(uid).ok()?, u32::try_from(gid).ok()?),
    })
}

fn status(id: i32) -> SysResult<libc::msqid_ds> {
    // SAFETY: all zeros is a valid value.
    let mut status: libc::msqid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is ours and valid for writing.
    if unsafe { libc::msgctl(id, libc::IPC_STAT, &raw mut status) } == -1 {
        return Err(failed("msgctl(IPC_STAT)", id));
    }
    Ok(status)
}

/// Bytes that a queue may hold.
pub fn most_bytes(id: i32) -> SysResult<u64> {
    Ok(status(id)?.msg_qbytes)
}

/// Message `number` of a queue, from 0: its type and its text. It stays there, and nobody is told. None: there are not so many.
///
/// # Errors
/// ENOSYS on a kernel without CONFIG_CHECKPOINT_RESTORE; E2BIG when it is longer than kernel.msgmax allows now.
pub fn peek(id: i32, number: i64) -> SysResult<Option<(i64, Vec<u8>)>> {
    receive_with(id, number, MSG_COPY | libc::IPC_NOWAIT)
}

/// Takes the first message; None: there is none.
pub fn receive(id: i32) -> SysResult<Option<(i64, Vec<u8>)>> {
    receive_with(id, 0, libc::IPC_NOWAIT)
}

fn receive_with(id: i32, which: i64, flags: i32) -> SysResult<Option<(i64, Vec<u8>)>> {
    let text = std::fs::read_to_string(MOST_BYTES).unwrap_or_default();
    let most = text.trim().parse().unwrap_or(8192).max(usize::try_from(most_bytes(id)?).unwrap_or(0));
    let mut buffer = vec![0u8; TYPE_BYTES + most];
    // SAFETY: room for the type and as many bytes as are asked for.
    let bytes = unsafe { libc::msgrcv(id, buffer.as_mut_ptr().cast(), most, which, flags) };
    let Ok(bytes) = usize::try_from(bytes) else {
        return if Errno::last() == Errno::ENOMSG { Ok(None) } else { Err(failed("msgrcv", id)) };
    };
    let data = buffer.split_off(TYPE_BYTES);
    let kind = buffer.first_chunk().map_or(0, |bytes| i64::from_ne_bytes(*bytes));
    Ok(Some((kind, data.into_iter().take(bytes).collect())))
}

/// A message as msgsnd(2) takes it.
#[must_use]
pub fn message(kind: i64, data: &[u8]) -> Vec<u8> {
    [kind.to_ne_bytes().as_slice(), data].concat()
}

/// Adds a message. EAGAIN: there is no room for it.
pub fn send(id: i32, kind: i64, data: &[u8]) -> SysResult<()> {
    let message = message(kind, data);
    // SAFETY: the type and as many bytes as it says.
    if unsafe { libc::msgsnd(id, message.as_ptr().cast(), data.len(), libc::IPC_NOWAIT) } == -1 {
        return Err(failed("msgsnd", id));
    }
    Ok(())
}

/// Makes a queue with the id of `queue`. EEXIST: the key is another's; the result is another id when that id is taken.
pub fn create(queue: &Queue) -> SysResult<i32> {
    let choose = |error| SysError::new("write", NEXT_ID, error);
    std::fs::write(NEXT_ID, queue.id.to_string()).map_err(choose)?;
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | queue.mode.cast_signed();
    // SAFETY: no pointers.
    let made = unsafe { libc::msgget(queue.key, flags) };
    if made != -1 {
        return Ok(made);
    }
    let error = failed("msgget", queue.id);
    // A choice that was not used up would be the next one's.
    // SAFETY: no pointers.
    let used = unsafe { libc::msgget(libc::IPC_PRIVATE, libc::IPC_CREAT) };
    if used != -1 {
        remove(used)?;
    }
    Err(error)
}

/// Sets owner and permission bits as `queue` has them, and the bytes that it may hold.
///
/// # Errors
/// EPERM: it may hold more than kernel.msgmnb, and we lack CAP_SYS_RESOURCE.
pub fn set(queue: &Queue, most_bytes: u64) -> SysResult<()> {
    let mut status = status(queue.id)?;
    (status.msg_perm.uid, status.msg_perm.gid) = queue.owner;
    status.msg_perm.mode = u16::try_from(queue.mode).unwrap_or(0);
    status.msg_qbytes = most_bytes;
    // SAFETY: `status` is ours and valid for reading.
    if unsafe { libc::msgctl(queue.id, libc::IPC_SET, &raw mut status) } == -1 {
        return Err(failed("msgctl(IPC_SET)", queue.id));
    }
    Ok(())
}

/// Removes a queue.
pub fn remove(id: i32) -> SysResult<()> {
    // SAFETY: IPC_RMID reads no structure.
    if unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) } == -1 {
        return Err(failed("msgctl(IPC_RMID)", id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list() {
        let entry = sysv::parse(
            "  -1159983106          3   640          20     2   77     0  1000   100     0     0 1700000000 1700000000 0",
        );
        let queue = queue(&entry.unwrap());
        let expected =
            Queue { id: 3, key: -1_159_983_106, mode: 0o640, last_users: (77, 0), owner: (1000, 100) };
        assert_eq!(queue, Some(expected));
    }
}
