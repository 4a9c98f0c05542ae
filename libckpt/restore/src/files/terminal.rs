//! Terminals: pseudo terminals under the numbers that they had, with their sessions; the restoring command's in place of the one outside.
use super::common::{open_flags, show};
use super::{Maker, stdio};
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::terminal::{OwnTerminal, to_termios};
use ckpt_image::Image;
use ckpt_image::record::{
    FileKindV1, OpenFileId, OpenFileV1, TerminalEndV1, TerminalPairV1, TerminalSideV1, TerminalV1,
};
use ckpt_sys::{SysError, descriptor, pidfd, terminal};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const NEW_PAIR: &[u8] = b"/dev/ptmx";
const CONTROLLING: &[u8] = b"/dev/tty";

/// A pseudo terminal of the job's under construction.
struct Pair<'f> {
    index: u32,
    master: OpenFileId,
    state: &'f TerminalV1,
    settings: TerminalPairV1,
    slaves: Vec<(&'f OpenFileV1, &'f [u8])>,
}

/// The masters of the job's terminals: opened before there are processes, as only children inherit a controlling terminal.
#[derive(Debug)]
pub(crate) struct Masters {
    by_index: BTreeMap<u32, OwnedFd>,
    /// Whose controlling terminal each is.
    of_session: BTreeMap<i32, u32>,
}

impl Masters {
    /// Opens them, under the numbers that they had.
    pub(crate) fn open(image: &Image) -> RestoreResult<Self> {
        let files: Vec<OpenFileV1> = image.records()?;
        let mut wanted = Wanted::default();
        let mut of_session = BTreeMap::new();
        for (_, end) in ends(&files) {
            match end.side {
                TerminalSideV1::Master { index } => {
                    wanted.needed.insert(index, &end.path);
                    let state = end.state.as_ref().filter(|state| state.session > 0);
                    of_session.extend(state.map(|state| (state.session, index)));
                }
                TerminalSideV1::HungUp => wanted.better.extend(number(&end.path)),
                _ => {}
            }
        }
        let by_index = open_masters(&wanted)?;
        for (index, master) in &by_index {
            terminal::set_locked(master.as_fd(), false).map_err(failed("ioctl(TIOCSPTLCK)", *index))?;
        }
        Ok(Self { by_index, of_session })
    }

    /// Has a process that leads a session, and nobody else yet, take its controlling terminal.
    pub(crate) fn control(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        let Some(index) = self.of_session.get(&builder.remote.pid()) else { return Ok(()) };
        let name = format!("/dev/pts/{index}");
        let number = open_remotely(builder, name.as_bytes(), libc::O_RDWR | libc::O_NOCTTY)?;
        builder.call("ioctl(TIOCSCTTY)", &name, libc::SYS_ioctl, &[number, libc::TIOCSCTTY, 0])?;
        builder.call("close", &name, libc::SYS_close, &[number]).map(drop)
    }
}

fn open_remotely(builder: &mut Builder<'_>, path: &[u8], flags: i32) -> RestoreResult<u64> {
    let at = i64::from(libc::AT_FDCWD).cast_unsigned();
    let placed = builder.place_path(path)?.get();
    let args = [at, placed, u64::from(flags.unsigned_abs()), 0];
    builder.call("openat", &show(path), libc::SYS_openat, &args)
}

fn ends(files: &[OpenFileV1]) -> impl Iterator<Item = (&OpenFileV1, &TerminalEndV1)> {
    files.iter().filter_map(|file| match &file.kind {
        FileKindV1::Terminal(end) => Some((file, &**end)),
        _ => None,
    })
}

/// Makes all terminals.
pub(super) fn make_all(
    maker: &mut Maker<'_, '_>,
    files: &[OpenFileV1],
    masters: Masters,
) -> RestoreResult<()> {
    let mut masters = masters.by_index;
    let mut pairs: BTreeMap<u32, Pair<'_>> = BTreeMap::new();
    for (file, end) in ends(files) {
        if let (TerminalSideV1::Master { index }, Some(state)) = (end.side, &end.state) {
            let settings = state.pair.ok_or_else(|| no_master(index))?;
            pairs.insert(index, Pair { index, master: file.id, state, settings, slaves: Vec::new() });
        }
    }
    for (file, end) in ends(files) {
        let made = match end.side {
            TerminalSideV1::Master { index } => masters.remove(&index).ok_or_else(|| no_master(index))?,
            TerminalSideV1::Slave { index } => {
                let pair = pairs.get_mut(&index).ok_or_else(|| no_master(index))?;
                pair.slaves.push((file, &end.path));
                continue;
            }
            TerminalSideV1::HungUp => hung_up(file, number(&end.path).and_then(|index| masters.get(&index)))?,
            TerminalSideV1::Outside { number, standing } => outside(maker, file, end, number, standing)?,
        };
        maker.made.insert(file.id, made);
    }
    // What is left of them hangs up.
    drop(masters);
    pairs.values().try_for_each(|pair| make_pair(maker, pair))
}

/// The N of /dev/pts/N.
fn number(path: &[u8]) -> Option<u32> {
    std::str::from_utf8(path.strip_prefix(b"/dev/pts/")?).ok()?.parse().ok()
}

/// Numbers of terminals.
#[derive(Default)]
struct Wanted<'f> {
    /// With the paths that the masters were opened by.
    needed: BTreeMap<u32, &'f [u8]>,
    /// Those of terminals that are hung up: others do as well.
    better: BTreeSet<u32>,
}

fn no_master(index: u32) -> RestoreError {
    RestoreError::Inconsistent { what: format!("terminal /dev/pts/{index} has no master") }
}

fn failed(call: &'static str, index: u32) -> impl Fn(Errno) -> SysError {
    move |errno| SysError::new(call, format!("/dev/pts/{index}"), errno)
}

/// Opens masters, by the paths that they were opened by, until each has its number: a new one gets the lowest that is free.
fn open_masters(wanted: &Wanted<'_>) -> RestoreResult<BTreeMap<u32, OwnedFd>> {
    let mut masters = BTreeMap::new();
    let mut missing: BTreeSet<u32> = wanted.needed.keys().chain(&wanted.better).copied().collect();
    let mut others = Vec::new();
    while let (Some(first), Some(last)) = (missing.first(), missing.last()) {
        // Which number comes is not known before: as a rule all are opened by one path.
        let path = wanted.needed.get(first).copied().unwrap_or(NEW_PAIR);
        let master = open_new(path)?;
        let index = terminal::index(master.as_fd())
            .map_err(|errno| SysError::new("ioctl(TIOCGPTN)", show(path), errno))?;
        if missing.contains(&index) {
            missing.remove(&index);
            masters.insert(index, master);
        } else if index > *last {
            let lacking = missing.iter().find(|index| wanted.needed.contains_key(index));
            return lacking.map_or(Ok(masters), |index| Err(taken(*index)));
        } else {
            others.push(master);
        }
    }
    Ok(masters)
}

fn open_new(path: &[u8]) -> RestoreResult<OwnedFd> {
    let opened = descriptor::open(path, libc::O_RDWR | libc::O_NOCTTY, 0);
    Ok(opened.map_err(|errno| SysError::new("open", show(path), errno))?)
}

fn taken(index: u32) -> RestoreError {
    let path = format!("/dev/pts/{index}");
    let holder = holder(&path).map_or_else(String::new, |holder| format!(" (by {holder})"));
    RestoreError::File {
        reason: format!("the program's terminal had this number, and it is in use{holder}"),
        path,
        remedy: "Close that terminal and restore again".into(),
    }
}

/// Who has a terminal open: `pid 4711, bash`.
fn holder(path: &str) -> Option<String> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == path))
    })?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("pid {pid}, {}", name.trim()))
}

/// A slave whose master is gone, or goes soon.
fn hung_up(file: &OpenFileV1, master: Option<&OwnedFd>) -> RestoreResult<OwnedFd> {
    let other;
    let master = match master {
        Some(master) => master,
        None => {
            other = open_new(NEW_PAIR)?;
            &other
        }
    };
    let index = terminal::index(master.as_fd()).unwrap_or_default();
    terminal::set_locked(master.as_fd(), false).map_err(failed("ioctl(TIOCSPTLCK)", index))?;
    let slave = terminal::open_slave(master.as_fd(), open_flags(file) & !libc::O_NOFOLLOW);
    Ok(slave.map_err(failed("ioctl(TIOCGPTPEER)", index))?)
}

/// What stands for a terminal outside the job.
fn outside(
    maker: &Maker<'_, '_>,
    file: &OpenFileV1,
    end: &TerminalEndV1,
    number: u32,
    standing: bool,
) -> RestoreResult<OwnedFd> {
    if let (false, Some(own)) = (standing, OwnTerminal::find(maker.stdio)) {
        if end.path == CONTROLLING
            && let Ok(opened) = descriptor::open(CONTROLLING, open_flags(file), 0)
        {
            return Ok(opened);
        }
        if let Some(opened) = own.open(open_flags(file)) {
            return Ok(opened);
        }
    }
    stdio::make(maker.stdio, file, number)
}

/// Gives a pair its settings, opens its slaves, and makes it the terminal of its session.
fn make_pair(maker: &mut Maker<'_, '_>, pair: &Pair<'_>) -> RestoreResult<()> {
    let Pair { index, state, settings, .. } = *pair;
    let master = maker.made(pair.master)?;
    let master = master.try_clone_to_owned().map_err(|error| SysError::new("dup", "a master", error))?;
    let fd = master.as_fd();
    let termios = to_termios(&state.termios);
    let (rows, columns, width, height) = state.window;
    terminal::set_termios(fd, &termios).map_err(failed("ioctl(TCSETS2)", index))?;
    terminal::set_window(fd, &[rows, columns, width, height]).map_err(failed("ioctl(TIOCSWINSZ)", index))?;
    for (file, path) in &pair.slaves {
        if *path != CONTROLLING {
            let slave = open_slave(pair, fd, open_flags(file) & !libc::O_NOFOLLOW)?;
            maker.made.insert(file.id, slave);
        }
    }
    if state.session > 0 {
        let slave = open_slave(pair, fd, libc::O_RDWR | libc::O_NOCTTY)?;
        set_foreground(maker, pair, slave.as_fd())?;
    }
    let controlling: Vec<_> = pair.slaves.iter().filter(|(_, path)| *path == CONTROLLING).collect();
    for (file, _) in controlling {
        let opened = open_controlling(maker, state.session, open_flags(file))?;
        // The session's leader has ended since it was opened.
        let opened = match opened {
            Some(opened) => opened,
            None => open_slave(pair, fd, open_flags(file) & !libc::O_NOFOLLOW)?,
        };
        maker.made.insert(file.id, opened);
    }
    if settings.slave_closed {
        drop(open_slave(pair, fd, libc::O_RDWR | libc::O_NOCTTY)?);
    }
    finish(maker, pair, fd)
}

fn open_slave(pair: &Pair<'_>, master: BorrowedFd<'_>, flags: i32) -> RestoreResult<OwnedFd> {
    Ok(terminal::open_slave(master, flags).map_err(failed("ioctl(TIOCGPTPEER)", pair.index))?)
}

/// Gives a terminal to a user and a group. One that this user namespace does not know stays what devpts has given it to: as a rule, the group tty.
fn give_to(path: &str, (user, group): (u32, u32)) -> RestoreResult<()> {
    for (user, group) in [(Some(user), None), (None, Some(group))] {
        match std::os::unix::fs::chown(path, user, group) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                tracing::debug!(
                    path,
                    ?user,
                    ?group,
                    "the terminal's owner is not known in this user namespace"
                );
            }
            outcome => outcome.map_err(|error| SysError::new("chown", path, error))?,
        }
    }
    Ok(())
}

/// What would keep the slave from being opened, or changes what is read, comes last.
fn finish(maker: &Maker<'_, '_>, pair: &Pair<'_>, master: BorrowedFd<'_>) -> RestoreResult<()> {
    let Pair { index, settings, .. } = *pair;
    let path = format!("/dev/pts/{index}");
    give_to(&path, settings.owner)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(settings.mode & 0o7777);
    std::fs::set_permissions(&path, mode).map_err(|error| SysError::new("chmod", path.clone(), error))?;
    if settings.exclusive.0 {
        terminal::set_exclusive(master).map_err(failed("ioctl(TIOCEXCL)", index))?;
    }
    if let (true, Some((file, _))) = (settings.exclusive.1, pair.slaves.first()) {
        terminal::set_exclusive(maker.made(file.id)?).map_err(failed("ioctl(TIOCEXCL)", index))?;
    }
    if settings.packets {
        terminal::set_packets(master, true).map_err(failed("ioctl(TIOCPKT)", index))?;
    }
    if settings.locked {
        terminal::set_locked(master, true).map_err(failed("ioctl(TIOCSPTLCK)", index))?;
    }
    Ok(())
}

/// Has the leader of a terminal's session set the foreground group.
fn set_foreground(maker: &mut Maker<'_, '_>, pair: &Pair<'_>, slave: BorrowedFd<'_>) -> RestoreResult<()> {
    let TerminalV1 { session, foreground, .. } = *pair.state;
    let Some(site) = leader(maker, session) else {
        let what =
            format!("session {session} of terminal /dev/pts/{} has no leader with descriptors", pair.index);
        return Err(RestoreError::Inconsistent { what });
    };
    let name = format!("/dev/pts/{}", pair.index);
    maker.in_process(site, slave, |builder, number| {
        let Some(group) = builder.id_there(foreground)? else { return Ok(()) };
        let group = builder.place(&group.to_ne_bytes())?;
        let set = [number, libc::TIOCSPGRP, group.get()];
        match builder.remote.syscall(libc::SYS_ioctl, &set)? {
            // The group has no processes any more.
            Ok(_) | Err(Errno::ESRCH | Errno::EPERM | Errno::EINVAL) => Ok(()),
            Err(errno) => {
                let pid = builder.remote.pid();
                let object = format!("{name}, group {foreground}");
                Err(RestoreError::Remote { pid, call: "ioctl(TIOCSPGRP)", object, errno })
            }
        }
    })
}

fn leader(maker: &Maker<'_, '_>, session: i32) -> Option<usize> {
    maker.sites.iter().position(|site| site.builder.remote.pid() == session)
}

/// Opens /dev/tty where it stands for the terminal of `session`.
fn open_controlling(maker: &mut Maker<'_, '_>, session: i32, flags: i32) -> RestoreResult<Option<OwnedFd>> {
    let Some(site) = leader(maker, session) else { return Ok(None) };
    let builder = &mut maker.sites[site].builder;
    let number = open_remotely(builder, CONTROLLING, flags)?;
    let process = pidfd::open_task(builder.remote.pid())?;
    let opened = pidfd::getfd(process.as_fd(), i32::try_from(number).unwrap_or(-1))?;
    builder.call("close", &show(CONTROLLING), libc::SYS_close, &[number])?;
    Ok(Some(opened))
}
