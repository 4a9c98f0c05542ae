//! cgroups(7): who is in which control group, and the hierarchies of groups as directories.
use crate::error::{SysError, SysResult};
use crate::proc::{malformed, mounts, mounts::Mount, read};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

mod keeper;
mod mount;
mod note;

pub use keeper::Keeper;
pub use note::{has_note, set_note};

/// The group that a thread is in, in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The hierarchy: its controllers or `name=` and its name, separated by commas; empty: version 2.
    pub hierarchy: String,
    /// The group's path, as this process's cgroup namespace has it.
    pub path: Vec<u8>,
}

/// Those of thread `tid` of process `pid`.
pub fn of(pid: i32, tid: i32) -> SysResult<Vec<Membership>> {
    parse(&read(pid, &format!("task/{tid}/cgroup"))?).ok_or_else(|| malformed("parse of cgroup", pid))
}

/// Those of this process; also where /proc is of another PID namespace.
pub fn own() -> SysResult<Vec<Membership>> {
    let path = "/proc/self/cgroup";
    let text = std::fs::read(path).map_err(|error| SysError::new("read", path, error))?;
    parse(&text).ok_or_else(|| malformed("parse of cgroup", std::process::id().cast_signed()))
}

/// Lines such as `4:memory:/a/b`; names have no newlines.
fn parse(text: &[u8]) -> Option<Vec<Membership>> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.splitn(3, |byte| *byte == b':').skip(1);
            let hierarchy = String::from_utf8(words.next()?.to_vec()).ok()?;
            Some(Membership { hierarchy, path: words.next()?.to_vec() })
        })
        .collect()
}

/// A hierarchy of groups, open.
#[derive(Debug)]
pub struct Hierarchy {
    name: String,
    /// The group that is at `dir`.
    shown: Vec<u8>,
    dir: OwnedFd,
}

impl Hierarchy {
    /// Opens the hierarchy that has this name in [`Membership`], where it is mounted, else by a mount that nobody else sees. One with a name only, that
    /// does not exist, is made.
    ///
    /// # Errors
    /// It is not mounted anywhere, and may not be or does not exist.
    pub fn open(name: &str) -> SysResult<Self> {
        let mounts = mounts::own()?;
        // The whole of it rather than a part.
        let mut candidates: Vec<&Mount> = mounts.iter().filter(|mount| is_of(mount, name)).collect();
        candidates.sort_by_key(|mount| mount.root.len());
        for mount in candidates {
            if let Some(dir) = open_mounted(mount) {
                return Ok(Self { name: name.to_owned(), shown: mount.root.clone(), dir });
            }
        }
        Ok(Self { name: name.to_owned(), shown: b"/".to_vec(), dir: mount::mount(name)? })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It is of version 2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.name.is_empty()
    }

    /// A path to the directory of a group, good for this process and its children while this lives. None: it is not below what is mounted.
    #[must_use]
    pub fn directory(&self, group: &[u8]) -> Option<PathBuf> {
        let shown = self.shown.strip_suffix(b"/").unwrap_or(&self.shown);
        let rest = group.strip_prefix(shown)?;
        if !rest.is_empty() && !rest.starts_with(b"/") || rest.starts_with(b"/..") {
            return None;
        }
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        Some(Path::new(&format!("/proc/self/fd/{}", self.dir.as_raw_fd())).join(OsStr::from_bytes(rest)))
    }

    /// The groups directly below a group.
    pub fn children(&self, group: &[u8]) -> SysResult<Vec<Vec<u8>>> {
        let Some(directory) = self.directory(group) else { return Ok(Vec::new()) };
        let failed = |error| SysError::new("readdir", self.describe(group), error);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let parent = group.strip_suffix(b"/").unwrap_or(group);
                found.push([parent, b"/", entry.file_name().as_bytes()].concat());
            }
        }
        found.sort();
        Ok(found)
    }

    /// The threads in a group, not in those below it; 0 stands for one that has no id in this process's PID namespace.
    pub fn threads(&self, group: &[u8]) -> SysResult<Vec<i32>> {
        let name = if self.is_v2() { "cgroup.threads" } else { "tasks" };
        let Some(directory) = self.directory(group) else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(directory.join(name));
        let text = text.map_err(|error| SysError::new("read", self.describe_file(group, name), error))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// What a file of a group says. None: there is no such file, or it says nothing now.
    pub fn read(&self, group: &[u8], name: &str) -> SysResult<Option<String>> {
        let Some(directory) = self.directory(group) else { return Ok(None) };
        let mut text = String::new();
        match File::open(directory.join(name)).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(SysError::new("read", self.describe_file(group, name), error)),
        }
    }

    /// Writes to a file of a group.
    pub fn write(&self, group: &[u8], name: &str, value: &str) -> SysResult<()> {
        let failed = |error| SysError::new("write", self.describe_file(group, name), error);
        let directory = self.directory(group).ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
        std::fs::OpenOptions::new()
            .write(true)
            .open(directory.join(name))
            .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(failed)
    }

    /// A group, for messages.
    #[must_use]
    pub fn describe(&self, group: &[u8]) -> String {
        describe(&self.name, group)
    }

    fn describe_file(&self, group: &[u8], name: &str) -> String {
        format!("{name} of {}", self.describe(group))
    }
}

/// A group of the hierarchy with this name, for messages.
#[must_use]
pub fn describe(hierarchy: &str, group: &[u8]) -> String {
    let hierarchy = if hierarchy.is_empty() { "version 2" } else { hierarchy };
    format!("control group {} ({hierarchy})", String::from_utf8_lossy(group))
}

/// Whether a file system is the hierarchy with this name. A controller is in one only.
fn is_of(mount: &Mount, name: &str) -> bool {
    if name.is_empty() {
        return mount.fs_type == "cgroup2";
    }
    let mut options = mount.options.split(',');
    mount.fs_type == "cgroup"
        && name.split(',').next().is_some_and(|word| options.any(|option| option == word))
}

/// The root of a mounted file system, unless something else is mounted over it.
fn open_mounted(mount: &Mount) -> Option<OwnedFd> {
    use std::os::unix::fs::MetadataExt;
    let file = File::open(OsStr::from_bytes(&mount.point)).ok()?;
    let device = file.metadata().ok()?.dev();
    let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let below_root = mount.root.starts_with(b"/") && !mount.root.starts_with(b"/..");
    (device == mount.device && below_root).then(|| file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_cgroup() {
        let found = parse(b"20:name=a:/\n4:cpu,cpuacct:/x:y/z\n0::/user.slice\n").unwrap();
        let told: Vec<_> = found.iter().map(|m| (m.hierarchy.as_str(), m.path.as_slice())).collect();
        assert_eq!(told, [("name=a", &b"/"[..]), ("cpu,cpuacct", &b"/x:y/z"[..]), ("", &b"/user.slice"[..])]);
        assert_eq!(parse(b"4\n"), None);
    }

    #[test]
    fn where_a_group_is_in_what_is_mounted() {
        let dir = || File::open("/").unwrap().into();
        let below = |shown: &str, group: &str| {
            let hierarchy = Hierarchy { name: String::new(), shown: shown.into(), dir: dir() };
            let path = hierarchy.directory(group.as_bytes())?;
            let fd = format!("/proc/self/fd/{}", hierarchy.dir.as_raw_fd());
            Some(path.strip_prefix(fd).unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(below("/", "/a/b").unwrap(), "a/b");
        assert_eq!(below("/", "/").unwrap(), "");
        assert_eq!(below("/a", "/a/b").unwrap(), "b");
        assert_eq!(below("/a", "/ab"), None);
        assert_eq!(below("/", "/../x"), None);
    }

    #[test]
    fn hierarchies_of_this_machine() {
        for Membership { hierarchy, path } in own().unwrap() {
            match Hierarchy::open(&hierarchy) {
                Ok(open) => {
                    let own = std::process::id().cast_signed();
                    if open.directory(&path).is_some_and(|path| path.exists()) {
                        let threads = open.threads(&path).unwrap();
                        assert!(threads.contains(&own), "{}: {threads:?}", open.describe(&path));
                    }
                }
                Err(error) => eprintln!("not exercised: {hierarchy}: {error}"),
            }
        }
    }
}
