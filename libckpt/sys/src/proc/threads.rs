//! The threads of a process.
use crate::error::{SysError, SysResult};

/// The ids of the threads of `pid`, the leader's first.
pub fn list(pid: i32) -> SysResult<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let failed = |error| SysError::new("readdir", path.clone(), error);
    let mut tids = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) {
            tids.push(tid);
        }
    }
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    Ok(tids)
}

/// The children of `pid`, of all its threads.
pub fn children(pid: i32) -> SysResult<Vec<i32>> {
    let mut found = Vec::new();
    for tid in list(pid)? {
        let path = format!("/proc/{pid}/task/{tid}/children");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()))
            }
            Err(error) => {
                let error = SysError::new("read", path, error);
                if !error.is_gone() {
                    return Err(error);
                }
            }
        }
    }
    Ok(found)
}
