//! Where the daemon of a store is found: its control socket and the files beside it.
//!
//! They live in a runtime directory that only the user may enter, never in the store, which holds checksummed files only.
use crate::failure::{Failure, Outcome};
use nix::unistd::{Uid, geteuid};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Longest path that fits `sockaddr_un`, without the closing NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// The files of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    dir: PathBuf,
    stem: String,
}

impl Endpoint {
    /// The endpoint of the store at `store`, which must be an absolute path without symbolic links.
    pub(crate) fn of_store(store: &Path) -> Self {
        let stem = format!("ckptd-{:016x}", fnv1a(store.as_os_str().as_bytes()));
        Self { dir: runtime_dir(), stem }
    }

    /// Listens here; clients connect here.
    pub(crate) fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// Locked by the daemon as long as it lives.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.file("pid")
    }

    /// Locked by the daemon and its workers as long as any of them lives.
    pub(crate) fn workers(&self) -> PathBuf {
        self.file("workers")
    }

    /// What a daemon in the background has to say.
    pub(crate) fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// The live jobs, for the daemon that comes after this one.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.file("jobs")
    }

    /// The file that says that a save is done; see [`crate::tickets`].
    pub(crate) fn ticket(&self, number: &str) -> PathBuf {
        self.file(&format!("ticket-{number}"))
    }

    /// All such files.
    pub(crate) fn tickets(&self) -> Vec<PathBuf> {
        let start = format!("{}.ticket-", self.stem);
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let ours =
            entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(start.as_bytes()));
        ours.map(|entry| entry.path()).collect()
    }

    /// One in a directory of a test's own.
    #[cfg(test)]
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.into(), stem: "ckptd-0".into() }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.stem))
    }

    /// Makes the runtime directory, mode 0700, and checks that it is ours alone.
    pub(crate) fn prepare_dir(&self) -> Outcome<()> {
        let fail = |what: &str, error: io::Error| {
            Failure::new(format!("cannot {what} the runtime directory {}: {error}", self.dir.display()))
                .remedy("name another one in CKPT_RUNTIME_DIR")
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(|e| fail("make", e))?;
        let meta = fs::metadata(&self.dir).map_err(|e| fail("read", e))?;
        if meta.uid() != geteuid().as_raw() {
            return Err(Failure::new(format!(
                "the runtime directory {} belongs to {}",
                self.dir.display(),
                user_name(meta.uid())
            ))
            .remedy("name another one in CKPT_RUNTIME_DIR"));
        }
        if meta.mode() & 0o077 != 0 {
            fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))
                .map_err(|e| fail("close to others", e))?;
        }
        Ok(())
    }

    /// Connects to the daemon.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let (path, _dir) = self.reachable()?;
        UnixStream::connect(path)
    }

    /// Listens, replacing a socket that a dead daemon left. The caller holds the lock on the pid file.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let socket = self.socket();
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (path, _dir) = self.reachable()?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// A path to the socket that fits its address. A longer one is reached through a descriptor of the directory,
    /// which must live until the path was used.
    fn reachable(&self) -> io::Result<(PathBuf, Option<File>)> {
        let socket = self.socket();
        if socket.as_os_str().len() <= LONGEST_SOCKET_PATH {
            return Ok((socket, None));
        }
        let dir = File::open(&self.dir)?;
        Ok((PathBuf::from(format!("/proc/self/fd/{}/{}.sock", dir.as_raw_fd(), self.stem)), Some(dir)))
    }
}

/// The user's name, for messages.
pub(crate) fn user_name(uid: u32) -> String {
    match nix::unistd::User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("user {}", user.name),
        _ => format!("uid {uid}"),
    }
}

fn runtime_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("CKPT_RUNTIME_DIR") {
        return dir;
    }
    if geteuid().is_root() {
        return "/run/ckpt".into();
    }
    if let Some(dir) = set("XDG_RUNTIME_DIR") {
        return dir.join("ckpt");
    }
    crate::store_dir::state_home().join("ckpt-run")
}

/// FNV-1a, 64 bits. libckpt.so computes the same, so it has to be simple; nothing depends on its strength.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_long_runtime_directory_is_no_obstacle() {
        let temp = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::in_dir(&temp.path().join("d".repeat(120)));
        endpoint.prepare_dir().unwrap();
        let _listener = endpoint.listen().unwrap();
        endpoint.connect().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&endpoint.dir), mode(&endpoint.socket())), (0o700, 0o600));
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::in_dir(temp.path());
        drop(endpoint.listen().unwrap());
        assert!(endpoint.connect().is_err());
        let _listener = endpoint.listen().unwrap();
        endpoint.connect().unwrap();
    }
}
