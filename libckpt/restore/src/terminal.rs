//! The restoring command's terminal, in place of the one outside that the job was started at.
use crate::error::RestoreResult;
use crate::family::Being;
use ckpt_image::Image;
use ckpt_image::record::{FileKindV1, OpenFileV1, TaskV1, TerminalSideV1, TerminalV1, TermiosV1};
use ckpt_sys::terminal::{self, Termios};
use ckpt_sys::{SysError, descriptor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, getsid};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// The terminal of the restoring command: the first of its standard descriptors that is one.
#[derive(Debug)]
pub(crate) struct OwnTerminal(OwnedFd);

impl OwnTerminal {
    /// Looks for it.
    pub(crate) fn find(stdio: [RawFd; 3]) -> Option<Self> {
        let mut copies = stdio.into_iter().filter_map(|number| descriptor::duplicate(number).ok());
        copies.find(|fd| terminal::device(fd.as_fd()).is_ok()).map(Self)
    }

    /// Another description of it.
    pub(crate) fn open(&self, flags: i32) -> Option<OwnedFd> {
        let link = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        descriptor::open(link.as_bytes(), flags & !libc::O_NOFOLLOW | libc::O_NOCTTY, 0).ok()
    }

    /// It is the controlling terminal of our session.
    fn is_controlling(&self) -> bool {
        terminal::session(self.0.as_fd())
            .is_ok_and(|session| getsid(None).is_ok_and(|own| own.as_raw() == session))
    }
}

/// The job's terminal was outside, and this command has one to give in its place.
#[derive(Debug)]
pub(crate) struct Handover {
    own: OwnTerminal,
    was: TerminalV1,
}

impl Handover {
    /// None: the job had none outside, or there is none here whose session we are in.
    pub(crate) fn find(image: &Image, stdio: [RawFd; 3]) -> RestoreResult<Option<Self>> {
        let files: Vec<OpenFileV1> = image.records()?;
        let was = files.into_iter().find_map(|file| match file.kind {
            FileKindV1::Terminal(end) if matches!(end.side, TerminalSideV1::Outside { .. }) => {
                end.state.filter(|state| state.session > 0)
            }
            _ => None,
        });
        let own = OwnTerminal::find(stdio).filter(OwnTerminal::is_controlling);
        Ok(own.zip(was).map(|(own, was)| Self { own, was }))
    }

    /// The session of that terminal becomes ours: a terminal has one session, and this one's is taken.
    pub(crate) fn join_session(&self, beings: &mut [Being]) {
        /// No process has it, so it is not of the job.
        const OURS: i32 = i32::MAX;
        if beings.first().is_none_or(|root| root.sid != self.was.session) {
            return;
        }
        for being in beings.iter_mut().filter(|being| being.sid == self.was.session) {
            being.sid = OURS;
        }
    }

    /// If the job was in the foreground, and this command is: it gets the settings that it had made, and the foreground.
    pub(crate) fn hand_over(&self, tasks: &[TaskV1]) -> RestoreResult<()> {
        let fd = self.own.0.as_fd();
        let group = self.was.foreground;
        if !self.was_in_foreground(tasks) || terminal::foreground(fd) != Ok(getpgrp().as_raw()) {
            return Ok(());
        }
        let failed = |call| move |errno| SysError::new(call, "the terminal", errno);
        terminal::set_termios(fd, &to_termios(&self.was.termios)).map_err(failed("ioctl(TCSETS2)"))?;
        // A group of the job's own; else it is in ours.
        if tasks.iter().any(|task| {
            task.pgid == group
                && nix::unistd::getpgid(Some(Pid::from_raw(task.pid))) == Ok(Pid::from_raw(group))
        }) {
            terminal::set_foreground(fd, group).map_err(failed("ioctl(TIOCSPGRP)"))?;
        }
        Ok(())
    }

    /// Tells the foreground processes that they have a new window: it may have another size, and shows nothing of theirs yet.
    pub(crate) fn tell(&self, tasks: &[TaskV1]) {
        for task in tasks.iter().filter(|task| task.pgid == self.was.foreground) {
            // It may have ended since.
            let _ = kill(Pid::from_raw(task.pid), Signal::SIGWINCH);
        }
    }

    fn was_in_foreground(&self, tasks: &[TaskV1]) -> bool {
        tasks.iter().any(|task| task.pgid == self.was.foreground)
    }
}

/// As the kernel takes them.
pub(crate) fn to_termios(saved: &TermiosV1) -> Termios {
    let mut control = [0; 19];
    for (to, from) in control.iter_mut().zip(&saved.cc) {
        *to = *from;
    }
    Termios {
        c_iflag: saved.iflag,
        c_oflag: saved.oflag,
        c_cflag: saved.cflag,
        c_lflag: saved.lflag,
        c_line: saved.line,
        c_cc: control,
        c_ispeed: saved.ispeed,
        c_ospeed: saved.ospeed,
    }
}
