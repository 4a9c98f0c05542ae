//! System V semaphores: semget(2), semctl(2).
use crate::error::{SysError, SysResult};
use crate::sysv::{self, Entry};

pub use crate::sysv::is_missing;

/// The sysctl that chooses the id of the next set.
const NEXT_ID: &str = "/proc/sys/kernel/sem_next_id";
const LIST: &str = "/proc/sysvipc/sem";

/// A set of semaphores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Id.
    pub id: i32,
    /// Key; 0 is IPC_PRIVATE.
    pub key: i32,
    /// Permission bits.
    pub mode: u32,
    /// How many it has.
    pub count: usize,
    /// Owner: user and group id.
    pub owner: (u32, u32),
}

fn failed(call: &'static str, id: i32) -> SysError {
    SysError::last(call, format!("semaphore set {id}"))
}

/// All sets of our IPC namespace.
pub fn list() -> SysResult<Vec<Set>> {
    Ok(sysv::list(LIST)?.iter().filter_map(set).collect())
}

/// `key semid perms nsems uid gid ...`.
fn set(entry: &Entry) -> Option<Set> {
    let [count, uid, gid, ..] = entry.rest[..] else { return None };
    Some(Set {
        id: entry.id,
        key: entry.key,
        mode: entry.mode,
        count: usize::try_from(count).ok()?,
        owner: (u32::try_from(uid).ok()?, u32::try_from(gid).ok()?),
    })
}

/// The values of a set.
pub fn values(set: &Set) -> SysResult<Vec<u16>> {
    let mut values = vec![0u16; set.count];
    // SAFETY: room for as many as the set has; that number never changes.
    if unsafe { libc::semctl(set.id, 0, libc::GETALL, values.as_mut_ptr()) } == -1 {
        return Err(failed("semctl(GETALL)", set.id));
    }
    Ok(values)
}

/// The processes that were the last to change each of its semaphores, without those that nobody has changed.
pub fn last_users(set: &Set) -> SysResult<Vec<i32>> {
    let mut users = Vec::new();
    for number in 0..i32::try_from(set.count).unwrap_or(i32::MAX) {
        // SAFETY: no pointers.
        match unsafe { libc::semctl(set.id, number, libc::GETPID) } {
            -1 => return Err(failed("semctl(GETPID)", set.id)),
            0 => {}
            pid if users.contains(&pid) => {}
            pid => users.push(pid),
        }
    }
    Ok(users)
}

/// Makes a set with the id of `set`. EEXIST: the key is another's; the result is another id when that id is taken.
pub fn create(set: &Set) -> SysResult<i32> {
    let choose = |error| SysError::new("write", NEXT_ID, error);
    std::fs::write(NEXT_ID, set.id.to_string()).map_err(choose)?;
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | set.mode.cast_signed();
    let count = i32::try_from(set.count).unwrap_or(i32::MAX);
    // SAFETY: no pointers.
    let made = unsafe { libc::semget(set.key, count, flags) };
    if made != -1 {
        return Ok(made);
    }
    let error = failed("semget", set.id);
    // A choice that was not used up would be the next one's.
    // SAFETY: no pointers.
    let used = unsafe { libc::semget(libc::IPC_PRIVATE, 1, libc::IPC_CREAT) };
    if used != -1 {
        remove(used)?;
    }
    Err(error)
}

/// Sets owner and permission bits.
pub fn set_owner(set: &Set) -> SysResult<()> {
    // SAFETY: all zeros is a valid value.
    let mut status: libc::semid_ds = unsafe { std::mem::zeroed() };
    (status.sem_perm.uid, status.sem_perm.gid) = set.owner;
    status.sem_perm.mode = u16::try_from(set.mode).unwrap_or(0);
    // SAFETY: `status` is ours and valid for reading.
    if unsafe { libc::semctl(set.id, 0, libc::IPC_SET, &raw mut status) } == -1 {
        return Err(failed("semctl(IPC_SET)", set.id));
    }
    Ok(())
}

/// Removes a set.
pub fn remove(id: i32) -> SysResult<()> {
    // SAFETY: no pointers.
    if unsafe { libc::semctl(id, 0, libc::IPC_RMID) } == -1 {
        return Err(failed("semctl(IPC_RMID)", id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list() {
        let entry = sysv::parse(
            "  -1159983106          3   640     17  1000   100     0     0 1700000000 1700000000",
        );
        let set = set(&entry.unwrap());
        let expected = Set { id: 3, key: -1_159_983_106, mode: 0o640, count: 17, owner: (1000, 100) };
        assert_eq!(set, Some(expected));
    }
}
