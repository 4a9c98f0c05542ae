//! What /proc says of a process.
pub mod maps;
pub mod mounts;
pub mod stand_in;
pub mod stat;
pub mod status;
pub mod threads;

use crate::error::{SysError, SysResult};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// The bytes of `/proc/PID/NAME`.
pub fn read(pid: i32, name: &str) -> SysResult<Vec<u8>> {
    let path = path(pid, name);
    read_whole(&path).map_err(|error| SysError::new("read", path, error))
}

/// As [`std::fs::read`], which asks for the size first: files of /proc have none.
fn read_whole(path: &str) -> io::Result<Vec<u8>> {
    const ROOM: usize = 4096;
    let mut file = File::open(path)?;
    let mut bytes = vec![0; ROOM];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(got) => len += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if bytes.len() - len < ROOM / 2 {
            bytes.resize(2 * bytes.len(), 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The text of `/proc/PID/NAME`; bytes that are not UTF-8 are replaced.
pub fn read_text(pid: i32, name: &str) -> SysResult<String> {
    read(pid, name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of `/proc/thread-self/NAME`, of this thread; bytes that are not UTF-8 are replaced.
pub fn read_own_text(name: &str) -> SysResult<String> {
    let path = format!("/proc/thread-self/{name}");
    let bytes = std::fs::read(&path).map_err(|error| SysError::new("read", path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The id of this thread as /proc has it: that of the PID namespace whose /proc it is, which need not be this thread's.
pub fn own_tid() -> SysResult<i32> {
    let path = "/proc/thread-self";
    let link = std::fs::read_link(path).map_err(|error| SysError::new("readlink", path, error))?;
    let tid = link.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    tid.ok_or_else(|| malformed(path, std::process::id().cast_signed()))
}

/// The text of `/proc/NAME`, as this thread sees it; bytes that are not UTF-8 are replaced.
pub fn read_system_text(name: &str) -> SysResult<String> {
    let path = format!("/proc/{name}");
    let bytes = std::fs::read(&path).map_err(|error| SysError::new("read", path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path `/proc/PID/NAME`, of the thread that stands in for the process if its main thread has ended. What is below `task` is there all the same.
#[must_use]
pub fn path(pid: i32, name: &str) -> String {
    format!("/proc/{}/{name}", stand_in::of(pid))
}

/// What the link `/proc/PID/NAME` names.
pub fn read_link(pid: i32, name: &str) -> SysResult<PathBuf> {
    let path = path(pid, name);
    std::fs::read_link(&path).map_err(|error| SysError::new("readlink", path, error))
}

/// The error of text that is not what the kernel documents.
#[must_use]
pub fn malformed(what: &'static str, pid: i32) -> SysError {
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "not in the form that proc(5) gives");
    SysError::new(what, format!("pid {pid}"), error)
}
