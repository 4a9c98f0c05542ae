//! /proc/PID/mountinfo.
use super::maps::unescape;
use super::{malformed, read};
use crate::error::{SysError, SysResult};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: u64,
    /// The id of the mount that it is mounted on.
    pub parent: u64,
    /// Device of the file system: `major:minor`.
    pub device: String,
    /// What of the file system is there.
    pub root: Vec<u8>,
    /// Where, as the process sees it.
    pub point: Vec<u8>,
    /// MS_* of the mount.
    pub flags: u64,
    /// The group of mounts that tell each other of changes (`shared:N`); 0: none.
    pub peers: u64,
    /// The group that it is told of changes by (`master:N`); 0: none.
    pub master: u64,
    /// Owners of files are not those that the file system has.
    pub idmapped: bool,
    /// Type of the file system.
    pub fs_type: String,
    /// What the file system was made of.
    pub source: Vec<u8>,
    /// Options of the file system, separated by commas.
    pub options: String,
}

/// The mounts that `pid` sees, each after the one that it is mounted on.
pub fn of(pid: i32) -> SysResult<Vec<Mount>> {
    parse_all(&read(pid, "mountinfo")?, pid)
}

/// The mounts that this thread sees, as [`of`]; also where /proc is of another PID namespace.
pub fn own() -> SysResult<Vec<Mount>> {
    let path = "/proc/thread-self/mountinfo";
    let text = std::fs::read(path).map_err(|error| SysError::new("read", path, error))?;
    parse_all(&text, std::process::id().cast_signed())
}

fn parse_all(text: &[u8], pid: i32) -> SysResult<Vec<Mount>> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mounts: Option<Vec<_>> = lines.map(parse).collect();
    Ok(in_order(mounts.ok_or_else(|| malformed("parse of mountinfo", pid))?))
}

/// The kernel lists them by age of the mount, which one that was moved need not agree with.
fn in_order(mut mounts: Vec<Mount>) -> Vec<Mount> {
    let mut ordered: Vec<Mount> = Vec::with_capacity(mounts.len());
    while !mounts.is_empty() {
        let is_under_another =
            |mount: &Mount| mounts.iter().any(|other| other.id == mount.parent && other.id != mount.id);
        let Some(at) = mounts.iter().position(|mount| !is_under_another(mount)) else { break };
        ordered.push(mounts.remove(at));
    }
    ordered.extend(mounts);
    ordered
}

fn parse(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [id, parent, device, root, point, flags, tags @ ..] = words.as_slice() else { return None };
    let dash = tags.iter().position(|word| *word == b"-")?;
    let [fs_type, source, options, ..] = tags.get(dash + 1..)? else { return None };
    let text = |word: &[u8]| String::from_utf8(word.to_vec()).ok();
    let tagged = |tag: &[u8]| {
        let number = tags[..dash].iter().find_map(|word| word.strip_prefix(tag));
        number.map_or(Some(0), |number| text(number)?.parse().ok())
    };
    let flags = text(flags)?;
    Some(Mount {
        id: text(id)?.parse().ok()?,
        parent: text(parent)?.parse().ok()?,
        device: text(device)?,
        root: unescape(root),
        point: unescape(point),
        flags: mount_flags(&flags),
        peers: tagged(b"shared:")?,
        master: tagged(b"master:")?,
        idmapped: flags.split(',').any(|option| option == "idmapped"),
        fs_type: text(fs_type)?,
        source: unescape(source),
        options: String::from_utf8(unescape(options)).ok()?,
    })
}

/// MS_* of the options that a mount, as against its file system, has.
fn mount_flags(options: &str) -> u64 {
    options.split(',').fold(0, |flags, option| {
        flags
            | match option {
                "ro" => libc::MS_RDONLY,
                "nosuid" => libc::MS_NOSUID,
                "nodev" => libc::MS_NODEV,
                "noexec" => libc::MS_NOEXEC,
                "noatime" => libc::MS_NOATIME,
                "nodiratime" => libc::MS_NODIRATIME,
                "relatime" => libc::MS_RELATIME,
                "nosymfollow" => 256,
                _ => 0,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let mount =
            parse(b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue")
                .unwrap();
        assert_eq!((mount.id, mount.parent, mount.device.as_str()), (36, 35, "98:0"));
        assert_eq!((mount.root.as_slice(), mount.point.as_slice()), (&b"/mnt1"[..], &b"/mnt 2"[..]));
        assert_eq!(mount.flags, libc::MS_NOATIME);
        assert_eq!((mount.peers, mount.master), (0, 1));
        assert_eq!((mount.fs_type.as_str(), mount.options.as_str()), ("ext3", "rw,errors=continue"));
    }

    #[test]
    fn a_mount_comes_after_the_one_that_it_is_on() {
        let mount = |id: u64, parent: u64| {
            parse(format!("{id} {parent} 0:1 / / rw - tmpfs none rw").as_bytes()).unwrap()
        };
        let ordered = in_order(vec![mount(30, 40), mount(40, 20), mount(20, 1)]);
        assert_eq!(ordered.iter().map(|mount| mount.id).collect::<Vec<_>>(), [20, 40, 30]);
    }
}
