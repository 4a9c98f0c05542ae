//! A terminal as a terminal emulator makes it: programs start at its slave, the test sits before its master.
use crate::wait::until;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The master, and what was read from it.
#[derive(Debug)]
pub struct Pty {
    master: File,
    slave: OwnedFd,
    output: String,
}

impl Pty {
    /// A terminal of this size.
    ///
    /// # Panics
    /// When there is none to be had.
    #[must_use]
    pub fn new(rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a pseudo terminal");
        for fd in [&master, &slave] {
            let cloexec = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
            nix::fcntl::fcntl(fd, cloexec).expect("close-on-exec");
        }
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&master, flags).expect("O_NONBLOCK");
        Pty { master: master.into(), slave, output: String::new() }
    }

    /// The end where programs are.
    #[must_use]
    pub fn slave(&self) -> &OwnedFd {
        &self.slave
    }

    /// Types.
    ///
    /// # Panics
    /// When nothing can be typed.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// Waits until this appears, and forgets what was shown up to there; returns that.
    ///
    /// # Panics
    /// When it does not appear.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let shown = std::cell::RefCell::new(String::new());
        let end = crate::wait::until_or_none(|| {
            self.read();
            shown.borrow_mut().clone_from(&self.output);
            self.output.find(text).map(|at| at + text.len())
        });
        let Some(end) = end else { panic!("{text:?} did not appear: {:?}", shown.into_inner()) };
        self.output.drain(..end).collect()
    }

    /// Reads until nothing waits any more.
    pub fn drain(&mut self) {
        self.read();
        self.output.clear();
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = self.master.read(&mut bytes) {
            self.output.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
    }

    /// Its settings.
    ///
    /// # Panics
    /// When it has been hung up.
    #[must_use]
    pub fn settings(&self) -> Termios {
        tcgetattr(self.master.as_fd()).expect("settings of the terminal")
    }

    /// Waits until this is the foreground process group.
    ///
    /// # Panics
    /// When it never is.
    pub fn wait_for_foreground(&self, group: i32) {
        until(&format!("process group {group} is in the foreground"), || {
            // SAFETY: no pointers; asked of the master, the kernel answers for any session.
            let now = unsafe { libc::tcgetpgrp(self.master.as_raw_fd()) };
            (now == group).then_some(())
        });
    }
}
