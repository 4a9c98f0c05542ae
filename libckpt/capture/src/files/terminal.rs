//! Terminals: pseudo terminals whose master is in the job, with their settings and sessions; and the one outside that the job was started at.
use super::{Context, FoundFile, device, path, stdio};
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{FileKindV1, TerminalEndV1, TerminalPairV1, TerminalSideV1, TerminalV1, TermiosV1};
use ckpt_sys::proc::stat::Stat;
use ckpt_sys::{SysError, descriptor, socket, terminal};
use nix::errno::Errno;
use nix::sys::stat::{major, minor};
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// The sessions of the job and their foreground groups, by the device of their controlling terminal; read when one is asked for.
#[derive(Debug, Default)]
pub(super) struct Sessions(Option<HashMap<u32, (i32, i32)>>);

impl Sessions {
    /// Session and foreground group of a terminal; zeros when it is of no session of the job's.
    fn of(&mut self, device: u32, members: impl Iterator<Item = i32>) -> (i32, i32) {
        let known = self.0.get_or_insert_with(|| {
            let stats = members.filter_map(|pid| Stat::of(pid, pid).ok());
            stats.map(|stat| (stat.tty_nr.cast_unsigned(), (stat.session, stat.tpgid))).collect()
        });
        known.get(&device).copied().unwrap_or_default()
    }
}

/// Saves a description of a terminal.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let device = match terminal::device(file.dup()) {
        Ok(device) => device,
        Err(Errno::EIO) => return Ok(end(file, TerminalSideV1::HungUp, None)),
        Err(errno) => return Err(failed("ioctl(TIOCGDEV)", context, file, errno)),
    };
    let ends: Vec<Arc<FoundFile>> = context
        .index
        .files()
        .iter()
        .filter(|other| device::is_any_terminal(other) && terminal::device(other.dup()) == Ok(device))
        .cloned()
        .collect();
    let master = ends.iter().find(|end| device::is_master(end)).cloned();
    let Some(master) = master else { return outside(context, file, device, &ends) };
    let ioctl = |errno| failed("ioctl of a terminal", context, file, errno);
    let index = terminal::index(master.dup()).map_err(ioctl)?;
    refuse_waiting(context, file, index)?;
    if master.id != file.id {
        return Ok(end(file, TerminalSideV1::Slave { index }, None));
    }
    let slave = ends.iter().find(|end| !device::is_master(end));
    let node = node(context, file, index, slave.map(|slave| &slave.meta))?;
    let pair = TerminalPairV1 {
        locked: terminal::locked(file.dup()).map_err(ioctl)?,
        packets: terminal::packets(file.dup()).map_err(ioctl)?,
        exclusive: (
            terminal::exclusive(file.dup()).map_err(ioctl)?,
            slave.map_or(Ok(false), |slave| terminal::exclusive(slave.dup())).map_err(ioctl)?,
        ),
        slave_closed: slave.is_none() && socket::ready(file.dup()) & libc::POLLHUP != 0,
        owner: (node.uid(), node.gid()),
        mode: node.mode(),
    };
    let state = state(context, file, device, Some(pair))?;
    Ok(end(file, TerminalSideV1::Master { index }, Some(state)))
}

/// A terminal whose master is not in the job.
fn outside(
    context: &mut Context<'_>,
    file: &FoundFile,
    device: u32,
    ends: &[Arc<FoundFile>],
) -> CaptureResult<FileKindV1> {
    let (session, _) = session_of(context, device);
    let standing = stdio::number(context, file);
    let same = ends.iter().filter(|other| other.info.access() == file.info.access());
    let mut related = same.chain(ends).filter_map(|other| stdio::number(context, other));
    let number = standing.or_else(|| related.next());
    if number.is_none() && is_fixed(file) {
        let rdev = file.meta.rdev();
        return Ok(FileKindV1::Device { path: path::name(context, file)?, rdev });
    }
    // The controlling terminal is the one that the job was started at, whatever became of descriptors 0, 1 and 2.
    let number = number.or_else(|| (session != 0).then_some(0));
    let Some(number) = number else {
        return Err(context.unsupported(
            file,
            format!(
                "it is a terminal outside the job{}, and not the one that the job was started at",
                stdio::other_holder(context, &file.link)
            ),
            "Close it before saving, or save the processes at both ends as one job",
        ));
    };
    let side = TerminalSideV1::Outside { number, standing: standing.is_some() };
    let first = ends.iter().map(|end| end.id).min() == Some(file.id);
    let state = if first { Some(state(context, file, device, None)?) } else { None };
    Ok(end(file, side, state))
}

/// A console or a virtual terminal: they are the machine's, and there under their names whoever uses them.
fn is_fixed(file: &FoundFile) -> bool {
    matches!((major(file.meta.rdev()), minor(file.meta.rdev())), (4, 0..64) | (5, 1))
}

fn end(file: &FoundFile, side: TerminalSideV1, state: Option<TerminalV1>) -> FileKindV1 {
    FileKindV1::Terminal(Box::new(TerminalEndV1 { path: file.path().to_vec(), side, state }))
}

fn failed(call: &'static str, context: &Context<'_>, file: &FoundFile, errno: Errno) -> CaptureError {
    SysError::new(call, context.index.name(file), errno).into()
}

fn session_of(context: &mut Context<'_>, device: u32) -> (i32, i32) {
    let Context { sessions, index, .. } = context;
    sessions.of(device, index.members())
}

fn state(
    context: &mut Context<'_>,
    file: &FoundFile,
    device: u32,
    pair: Option<TerminalPairV1>,
) -> CaptureResult<TerminalV1> {
    let (session, foreground) = session_of(context, device);
    let failed = |errno| failed("ioctl of a terminal", context, file, errno);
    let discipline = terminal::discipline(file.dup()).map_err(failed)?;
    if discipline != 0 && pair.is_some() {
        return Err(context.unsupported(
            file,
            format!("it has line discipline {discipline}, and only that of terminals (N_TTY) can be saved"),
            "End what uses it (PPP, SLIP) before saving",
        ));
    }
    let termios = terminal::termios(file.dup()).map_err(failed)?;
    let [rows, columns, width, height] = terminal::window(file.dup()).map_err(failed)?;
    Ok(TerminalV1 {
        termios: TermiosV1 {
            iflag: termios.c_iflag,
            oflag: termios.c_oflag,
            cflag: termios.c_cflag,
            lflag: termios.c_lflag,
            line: termios.c_line,
            cc: termios.c_cc.to_vec(),
            ispeed: termios.c_ispeed,
            ospeed: termios.c_ospeed,
        },
        window: (rows, columns, width, height),
        session,
        foreground,
        pair,
    })
}

/// The kernel gives what waits in a terminal only to who takes it.
fn refuse_waiting(context: &Context<'_>, file: &FoundFile, index: u32) -> CaptureResult<()> {
    // poll(2) brings along what is still on its way from the other end.
    let _ = socket::ready(file.dup());
    let waiting = match descriptor::readable_bytes(file.dup()) {
        Ok(waiting) => waiting,
        // A master whose slave is closed.
        Err(error) if error.errno() == Some(Errno::EIO) => 0,
        Err(error) => return Err(error.into()),
    };
    if waiting == 0 {
        return Ok(());
    }
    let (what, who) = if device::is_master(file) {
        ("output", "the program that shows the terminal")
    } else {
        ("input", "the program at the terminal")
    };
    Err(context.unsupported(
        file,
        format!("{waiting} bytes of {what} wait in terminal /dev/pts/{index}, and cannot be seen without taking them"),
        format!("Save again when {who} has read them"),
    ))
}

/// The slave's inode. Refused when /dev/pts/N is not this one's: a devpts file system other than that of this mount namespace.
fn node(
    context: &Context<'_>,
    file: &FoundFile,
    index: u32,
    slave: Option<&Metadata>,
) -> CaptureResult<Metadata> {
    let path = format!("/dev/pts/{index}");
    let found = std::fs::metadata(&path).map_err(|error| SysError::new("stat", path.clone(), error))?;
    // /dev/tty is a node of its own.
    let other = slave.is_some_and(|slave| slave.rdev() == found.rdev() && slave.dev() != found.dev());
    if other {
        return Err(context.unsupported(
            file,
            format!("it is not the terminal that {path} names here"),
            "Run ckpt where the program's /dev/pts is mounted",
        ));
    }
    Ok(found)
}
