//! The threads of a process.
use super::stat::Stat;
use crate::error::{SysError, SysResult};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};

/// The ids of the threads of `pid`, the leader's first; without those that the kernel runs there for itself (io_uring's workers): they have no state, and what
/// disturbs them disturbs the program's requests.
pub fn list(pid: i32) -> SysResult<Vec<i32>> {
    list_beyond(pid, &BTreeSet::new())
}

/// As [`list`]; those of `known` are known not to be the kernel's.
pub fn list_beyond(pid: i32, known: &BTreeSet<i32>) -> SysResult<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let failed = |error| SysError::new("readdir", path.clone(), error);
    let mut tids = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(tid) = name.to_str().and_then(|name| name.parse().ok())
            && (known.contains(&tid) || !is_worker(pid, tid))
        {
            tids.push(tid);
        }
    }
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    Ok(tids)
}

/// Whether a thread is a worker of io_uring's. Only a thread that is called like one is looked at closely.
fn is_worker(pid: i32, tid: i32) -> bool {
    const PF_IO_WORKER: u64 = 0x10;
    const PF_USER_WORKER: u64 = 0x4000;
    let name = std::fs::read(format!("/proc/{pid}/task/{tid}/comm"));
    name.is_ok_and(|name| name.starts_with(b"iou-"))
        && Stat::of(pid, tid).is_ok_and(|stat| stat.flags & (PF_IO_WORKER | PF_USER_WORKER) != 0)
}

/// The children of `pid`, of all its threads.
pub fn children(pid: i32) -> SysResult<Vec<i32>> {
    children_beyond(pid, &BTreeSet::new())
}

/// As [`children`]; threads of `known` are known not to be the kernel's.
pub fn children_beyond(pid: i32, known: &BTreeSet<i32>) -> SysResult<Vec<i32>> {
    children_of(pid, &list_beyond(pid, known)?)
}

/// The children of `pid` that its threads `tids` have.
pub fn children_of(pid: i32, tids: &[i32]) -> SysResult<Vec<i32>> {
    let mut found = Vec::new();
    for tid in tids {
        let path = format!("/proc/{pid}/task/{tid}/children");
        match read_children(&path).map_err(|error| SysError::new("read", path, error)) {
            Ok(text) => {
                found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()))
            }
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Most threads have no children: they are asked in the job's pause, with as few calls as can be.
fn read_children(path: &str) -> io::Result<String> {
    // Less than half of the kernel's own buffer, which it fills as long as another pid fits: then there are no more.
    const FEW: usize = 2048;
    let mut file = File::open(path)?;
    let mut text = [0; FEW];
    let got = file.read(&mut text)?;
    let mut text = String::from_utf8_lossy(&text[..got]).into_owned();
    if got == FEW {
        file.read_to_string(&mut text)?;
    }
    Ok(text)
}
