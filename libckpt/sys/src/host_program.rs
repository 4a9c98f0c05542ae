//! Programs of the machine that ckpt was started on, run from within another mount namespace: what lies under the same name there is the job's, and
//! must not run with our privileges.
use crate::error::{SysError, SysResult};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// The root directory in which programs are looked for.
static ROOT: OnceLock<File> = OnceLock::new();

/// Has programs be looked for below the root directory that this process has now. To be called before it goes into, or makes, a mount namespace;
/// only the first call counts.
///
/// # Errors
/// The root directory cannot be opened.
pub fn keep_root() -> SysResult<()> {
    if ROOT.get().is_none() {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let root = OpenOptions::new().read(true).custom_flags(flags).open("/");
        // Another thread's is the same.
        let _ = ROOT.set(root.map_err(|error| SysError::new("open", "/", error))?);
    }
    Ok(())
}

/// A command whose program and libraries are those below the root directory that was kept, this process's own if none was. It inherits no descriptors but
/// its standard ones.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let root = ROOT.get().map(AsRawFd::as_raw_fd);
    // SAFETY: between fork and exec only system calls are made; the descriptor is never closed.
    unsafe { command.pre_exec(move || prepare(root)) };
    command
}

fn prepare(root: Option<i32>) -> io::Result<()> {
    let done = |outcome: i32| if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    if let Some(root) = root {
        // SAFETY: no pointers.
        done(unsafe { libc::fchdir(root) })?;
        // SAFETY: the path is a C string.
        done(unsafe { libc::chroot(c".".as_ptr()) })?;
    }
    let cloexec = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: no pointers; descriptors stay open until the exec.
    done(unsafe { libc::close_range(3, libc::c_uint::MAX, cloexec) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// In another root directory, `true` is a program that fails.
    #[test]
    fn the_program_is_the_one_of_the_root_that_was_kept() {
        let dir = std::env::temp_dir().join(format!("ckpt-host-program-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("bin")).unwrap();
        let fake = dir.join("bin/true");
        std::fs::write(&fake, "#!/bin/sh\nexit 3\n").unwrap();
        std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
        symlink("bin", dir.join("usr")).unwrap();
        keep_root().unwrap();
        let inside = std::thread::spawn({
            let dir = dir.clone();
            move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
                nix::unistd::chroot(&dir).ok()?; // not root
                Some(command("true").status())
            }
        });
        let ran = inside.join().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        if let Some(ran) = ran {
            assert!(ran.unwrap().success());
        }
    }

    #[test]
    fn no_other_descriptor_is_inherited() {
        let file = File::open("/proc/self/status").unwrap();
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }, 0);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let ran = command("test").args(["-e", &path]).status().unwrap();
        assert!(!ran.success());
    }
}
