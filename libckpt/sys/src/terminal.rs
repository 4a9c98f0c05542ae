//! Terminals: ioctl_tty(2). Errors are those of the ioctl; EIO is a terminal that has been hung up.
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `struct termios2`.
pub type Termios = libc::termios2;
/// `struct winsize`: rows, columns, and both in pixels.
pub type Window = [u16; 4];

fn get<T: Default>(fd: BorrowedFd<'_>, request: libc::Ioctl) -> Result<T, Errno> {
    let mut value = T::default();
    // SAFETY: callers choose `T` as the kernel writes it for the request.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut value) };
    Errno::result(outcome).map(|_| value)
}

fn set<T>(fd: BorrowedFd<'_>, request: libc::Ioctl, value: &T) -> Result<(), Errno> {
    // SAFETY: callers choose `T` as the kernel reads it for the request.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_ref(value)) };
    Errno::result(outcome).map(drop)
}

/// A terminal's device number, as the kernel encodes it for tty_nr of /proc/PID/stat too: of /dev/tty the terminal that it stands for, of a master its
/// slave's (TIOCGDEV).
pub fn device(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    get(fd, libc::TIOCGDEV)
}

/// The N of /dev/pts/N of a master (TIOCGPTN).
pub fn index(master: BorrowedFd<'_>) -> Result<u32, Errno> {
    get(master, libc::TIOCGPTN)
}

/// The settings (TCGETS2); of a master, those of its slave.
pub fn termios(fd: BorrowedFd<'_>) -> Result<Termios, Errno> {
    // SAFETY: a structure of integers may be all zeros.
    let mut termios: Termios = unsafe { std::mem::zeroed() };
    // SAFETY: `termios` is what TCGETS2 writes.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS2, &raw mut termios) };
    Errno::result(outcome).map(|_| termios)
}

/// Sets the settings at once (TCSETS2).
pub fn set_termios(fd: BorrowedFd<'_>, termios: &Termios) -> Result<(), Errno> {
    set(fd, libc::TCSETS2, termios)
}

/// The window's size (TIOCGWINSZ).
pub fn window(fd: BorrowedFd<'_>) -> Result<Window, Errno> {
    get(fd, libc::TIOCGWINSZ)
}

/// Sets the window's size; the foreground group is told when it changes (TIOCSWINSZ).
pub fn set_window(fd: BorrowedFd<'_>, window: &Window) -> Result<(), Errno> {
    set(fd, libc::TIOCSWINSZ, window)
}

/// The number of the line discipline; 0 is N_TTY (TIOCGETD).
pub fn discipline(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    get(fd, libc::TIOCGETD)
}

/// Whether a master's slave cannot be opened yet (TIOCGPTLCK).
pub fn locked(master: BorrowedFd<'_>) -> Result<bool, Errno> {
    get::<i32>(master, libc::TIOCGPTLCK).map(|locked| locked != 0)
}

/// Locks or unlocks a master's slave (TIOCSPTLCK).
pub fn set_locked(master: BorrowedFd<'_>, locked: bool) -> Result<(), Errno> {
    set(master, libc::TIOCSPTLCK, &i32::from(locked))
}

/// Packet mode of a master (TIOCGPKT).
pub fn packets(master: BorrowedFd<'_>) -> Result<bool, Errno> {
    get::<i32>(master, libc::TIOCGPKT).map(|on| on != 0)
}

/// Sets packet mode of a master (TIOCPKT).
pub fn set_packets(master: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    set(master, libc::TIOCPKT, &i32::from(on))
}

/// Whether this end cannot be opened again (TIOCGEXCL).
pub fn exclusive(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    get::<i32>(fd, libc::TIOCGEXCL).map(|on| on != 0)
}

/// Keeps this end from being opened again (TIOCEXCL).
pub fn set_exclusive(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    set(fd, libc::TIOCEXCL, &0)
}

/// The foreground process group, when the terminal is our controlling one (TIOCGPGRP).
pub fn foreground(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    get(fd, libc::TIOCGPGRP)
}

/// Makes a process group of our session the foreground one of our controlling terminal (TIOCSPGRP).
pub fn set_foreground(fd: BorrowedFd<'_>, pgid: i32) -> Result<(), Errno> {
    set(fd, libc::TIOCSPGRP, &pgid)
}

/// The session whose controlling terminal this is, when it is ours (TIOCGSID).
pub fn session(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    get(fd, libc::TIOCGSID)
}

/// Opens the slave of a master that is not locked, without a path (TIOCGPTPEER); `flags` as open(2) takes them. Close-on-exec.
pub fn open_slave(master: BorrowedFd<'_>, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the argument is passed by value.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags & !libc::O_CLOEXEC) };
    // SAFETY: the kernel has just returned this descriptor to us.
    let fd = Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })?;
    // Given to the ioctl, the flag would stay with the description.
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_pair_has_one_number_one_size_and_one_set_of_settings() {
        let master = crate::descriptor::open(b"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0).unwrap();
        let master_fd = master.as_fd();
        assert!(locked(master_fd).unwrap());
        set_locked(master_fd, false).unwrap();
        let slave = open_slave(master_fd, libc::O_RDWR | libc::O_NOCTTY).unwrap();
        assert_eq!(device(master_fd), device(slave.as_fd()));
        set_window(master_fd, &[24, 80, 7, 8]).unwrap();
        assert_eq!(window(slave.as_fd()), Ok([24, 80, 7, 8]));
        let mut termios_now = termios(slave.as_fd()).unwrap();
        termios_now.c_lflag &= !libc::ICANON;
        set_termios(master_fd, &termios_now).unwrap();
        assert_eq!(termios(slave.as_fd()).unwrap().c_lflag & libc::ICANON, 0);
        assert_eq!(session(master_fd), Err(Errno::ENOTTY));
        drop(master);
        assert_eq!(device(slave.as_fd()), Err(Errno::EIO));
    }
}
