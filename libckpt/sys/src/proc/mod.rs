//! What /proc says of a process.
pub mod maps;
pub mod mounts;
pub mod stand_in;
pub mod stat;
pub mod status;
pub mod threads;

use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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

/// How many descriptors process `pid` has (the size of /proc/PID/fd, Linux 6.2); None: the kernel does not tell.
pub fn descriptors(pid: i32) -> SysResult<Option<usize>> {
    let path = path(pid, "fd");
    let meta = std::fs::metadata(&path).map_err(|error| SysError::new("stat", path, error))?;
    Ok(usize::try_from(std::os::unix::fs::MetadataExt::size(&meta)).ok().filter(|count| *count > 0))
}

/// What the link `/proc/PID/NAME` names.
pub fn read_link(pid: i32, name: &str) -> SysResult<PathBuf> {
    let path = path(pid, name);
    std::fs::read_link(&path).map_err(|error| {
        let error = if is_of_ended(&path, &error) { Errno::ESRCH.into() } else { error };
        SysError::new("readlink", path, error)
    })
}

/// Whether following the link `path` has failed as its process or thread has ended: the kernel says of it what it says of one that may not be looked into
/// (proc_pid_readlink, proc_ns_readlink).
pub(crate) fn is_of_ended(path: &str, error: &io::Error) -> bool {
    let task = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        let len = if parts.get(3) == Some(&"task") { 5 } else { 3 };
        parts[..len.min(parts.len())].join("/")
    };
    error.raw_os_error() == Some(Errno::EACCES as i32) && !Path::new(&task(path)).exists()
}

/// The error of text that is not what the kernel documents.
#[must_use]
pub fn malformed(what: &'static str, pid: i32) -> SysError {
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "not in the form that proc(5) gives");
    SysError::new(what, format!("pid {pid}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_has_ended_is_told_from_one_that_may_not_be_looked_into() {
        let own = std::process::id();
        let denied = io::Error::from(Errno::EACCES);
        for (path, ended) in [
            (format!("/proc/{own}/ns/net"), false),
            (format!("/proc/{own}/task/{own}/ns/net"), false),
            (format!("/proc/{own}/task/1/ns/net"), true),
            ("/proc/4194305/ns/net".to_owned(), true),
        ] {
            assert_eq!(is_of_ended(&path, &denied), ended, "{path}");
        }
        assert!(!is_of_ended("/proc/4194305/ns/net", &Errno::EPERM.into()));
        // The kernel says EACCES of threads that end while it follows their links: none of it is to come out here.
        let (told, tids) = std::sync::mpsc::channel();
        let births = std::thread::spawn(move || {
            for _ in 0..300 {
                let told = told.clone();
                let name = move || {
                    // SAFETY: no arguments.
                    let _ = told.send(unsafe { libc::gettid() });
                };
                let _ = std::thread::spawn(name).join();
            }
        });
        for tid in tids {
            if let Err(error) = read_link(own.cast_signed(), &format!("task/{tid}/ns/net")) {
                assert!(error.is_gone(), "{error}");
            }
        }
        births.join().unwrap();
    }
}
