//! Standing in for a program in the foreground: passing signals on, stopping with it, ending as it ended.
use super::terminal::Terminal;
use crate::failure::{Failure, Outcome};
use ckpt_sys::reaper;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, raise, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpgid, getpgrp};

/// What is passed on.
const PASSED_ON: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// Signals are read from a descriptor from here on, so that none is lost between the program's start and the wait.
pub(crate) struct Foreground {
    signals: SignalFd,
    caller_mask: SigSet,
    caller_sigchld: SigAction,
    terminal: Option<Terminal>,
}

impl Foreground {
    /// Blocks the signals that are passed on. Called before the program starts.
    pub(crate) fn prepare() -> Outcome<Self> {
        let fail = |errno: Errno| Failure::new(format!("cannot handle signals: {errno}"));
        let mut mask = SigSet::empty();
        PASSED_ON.iter().for_each(|signal| mask.add(*signal));
        mask.add(Signal::SIGCHLD);
        // A caller that ignores SIGCHLD would have the kernel throw the program's exit status away.
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is installed.
        let caller_sigchld = unsafe { sigaction(Signal::SIGCHLD, &default) }.map_err(fail)?;
        let caller_mask = mask.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(fail)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(fail)?;
        Ok(Self { signals, caller_mask, caller_sigchld, terminal: Terminal::find() })
    }

    /// Gives a child, before it executes a program, the signal state that this command was started with.
    pub(crate) fn undo_in_child(&self) -> nix::Result<()> {
        // SAFETY: this is what the caller had, which cannot be a handler across exec.
        unsafe { sigaction(Signal::SIGCHLD, &self.caller_sigchld) }?;
        // Rust's start-up code ignores SIGPIPE; programs expect its default.
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is installed.
        unsafe { sigaction(Signal::SIGPIPE, &default) }?;
        self.caller_mask.thread_set_mask()
    }

    /// Waits until the child ends, and for orphans of its that end before; and returns the exit status that says how: 128+N for signal N.
    pub(crate) fn wait(&self, child: i32) -> Outcome<u8> {
        let status = self.wait_for_end(child);
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
        }
        status
    }

    fn wait_for_end(&self, child: i32) -> Outcome<u8> {
        let pid = Pid::from_raw(child);
        let mut stop_with_it = false;
        loop {
            match reaper::wait_for_any(libc::WNOHANG | libc::WUNTRACED) {
                // An orphan of the program's.
                Ok(Some((other, _))) if other != child => continue,
                Ok(Some((_, status))) if libc::WIFEXITED(status) => {
                    return Ok(libc::WEXITSTATUS(status).to_le_bytes()[0]);
                }
                Ok(Some((_, status))) if libc::WIFSIGNALED(status) => {
                    return Ok(128 + libc::WTERMSIG(status).to_le_bytes()[0]);
                }
                Ok(Some((_, status))) if libc::WIFSTOPPED(status) => {
                    if self.terminal.as_ref().is_some_and(|terminal| terminal.stop_with(pid)) {
                        continue;
                    }
                    // Only when a terminal's stop came this way: a job that somebody else stopped is also continued
                    // by somebody else, and who would continue us?
                    if std::mem::take(&mut stop_with_it) {
                        let _ = raise(Signal::SIGSTOP);
                    }
                    continue;
                }
                Ok(_) => {}
                Err(error) => return Err(Failure::new(format!("cannot wait for pid {child}: {error}"))),
            }
            let Ok(Some(info)) = self.signals.read_signal() else { continue };
            let Some(signal) =
                i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
            else {
                continue;
            };
            stop_with_it |= signal == Signal::SIGTSTP;
            if signal != Signal::SIGCHLD && !has_it_already(pid, info.ssi_code) {
                // It may have ended a moment ago.
                let _ = kill(pid, signal);
            }
        }
    }
}

/// Whether the child got the signal, too: a terminal sends it to the whole process group.
fn has_it_already(child: Pid, code: i32) -> bool {
    code == libc::SI_KERNEL && getpgid(Some(child)) == Ok(getpgrp())
}
