//! The terminal that this command was started at, when it is the foreground job there and the program takes that place.
use ckpt_sys::terminal;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::unistd::{Pid, getpgid, getpgrp};
use std::fs::File;
use std::os::fd::AsFd;

/// Our controlling terminal; we were in the foreground there at the start.
pub(crate) struct Terminal(File);

impl Terminal {
    /// None: there is no terminal, or it is somebody else's for now.
    pub(crate) fn find() -> Option<Self> {
        let terminal = Self(File::options().read(true).write(true).open("/dev/tty").ok()?);
        (terminal.foreground() == Ok(getpgrp())).then_some(terminal)
    }

    fn foreground(&self) -> Result<Pid, Errno> {
        terminal::foreground(self.0.as_fd()).map(Pid::from_raw)
    }

    /// Makes a group the foreground one, whoever is that now.
    fn give_to(&self, group: Pid) {
        // A background process is stopped for that, unless it blocks the signal.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        let before = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        // The group may have ended.
        let _ = terminal::set_foreground(self.0.as_fd(), group.as_raw());
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
    }

    /// After the program has ended, in a group of its own: the terminal is ours again, as it was.
    pub(crate) fn take_back(&self) {
        if self.foreground().is_ok_and(|group| group != getpgrp()) {
            self.give_to(getpgrp());
        }
    }

    /// The program was stopped. If it is the foreground group, and not ours, then whoever started us knows nothing of that: we stop as well, and when
    /// we go on, it does. Whether that was so.
    pub(crate) fn stop_with(&self, program: Pid) -> bool {
        let Ok(group) = getpgid(Some(program)) else { return false };
        if group == getpgrp() || self.foreground() != Ok(group) {
            return false;
        }
        self.give_to(getpgrp());
        let _ = raise(Signal::SIGSTOP);
        if self.foreground() == Ok(getpgrp()) {
            self.give_to(group);
        }
        // It may have been killed meanwhile.
        let _ = kill(Pid::from_raw(-group.as_raw()), Signal::SIGCONT);
        true
    }
}
