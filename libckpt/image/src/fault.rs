//! Points at which a test may make this process fail or die.
//!
//! Only with the cargo feature `fault-injection`; without it [`point`] does nothing. The environment variable
//! `CKPT_FAULT` says what happens where, as a comma-separated list of `NAME:ACTION[:skip=N]`, for example
//! `commit.rename:kill` or `commit.pack.write:error=ENOSPC:skip=3`. The action happens each time that the point is
//! reached, but for the first N times. Actions:
//! - `kill`: SIGKILL to this process.
//! - `error`, `error=ENOSPC`: the point returns EIO or ENOSPC as if the system had.
//! - `stop`: SIGSTOP to this process; it goes on with the next SIGCONT.
//! - `kill-parent`, `kill-pid=PID`: SIGKILL to another process; this one goes on.
use std::io;

/// Returns at once, unless a test asked for a fault here.
///
/// # Errors
/// The injected one.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn point(_name: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "fault-injection")]
pub use active::point;

/// Runs `action` between the points `OPERATION.STEP` and `OPERATION.STEP.after`.
pub(crate) fn step<T>(operation: &str, step: &str, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if !cfg!(feature = "fault-injection") {
        return action();
    }
    point(&format!("{operation}.{step}"))?;
    let value = action()?;
    point(&format!("{operation}.{step}.after"))?;
    Ok(value)
}

#[cfg(feature = "fault-injection")]
mod active {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{Pid, getpid, getppid};
    use std::io;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(super) enum Action {
        Kill,
        Stop,
        Error(i32),
        KillPid(Pid),
        KillParent,
    }

    struct Fault {
        name: String,
        action: Action,
        skip: u64,
        reached: AtomicU64,
    }

    static FAULTS: LazyLock<Vec<Fault>> = LazyLock::new(|| {
        let text = std::env::var("CKPT_FAULT").unwrap_or_default();
        text.split(',')
            .filter(|f| !f.is_empty())
            .map(|f| parse(f).unwrap_or_else(|| panic!("CKPT_FAULT: {f:?}")))
            .collect()
    });

    fn parse(text: &str) -> Option<Fault> {
        let mut parts = text.split(':');
        let name = parts.next()?.to_owned();
        let action = match parts.next()? {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            "error" | "error=EIO" => Action::Error(libc::EIO),
            "error=ENOSPC" => Action::Error(libc::ENOSPC),
            "kill-parent" => Action::KillParent,
            other => Action::KillPid(Pid::from_raw(other.strip_prefix("kill-pid=")?.parse().ok()?)),
        };
        let skip = match parts.next() {
            Some(skip) => skip.trim_start_matches("skip").trim_start_matches(['=', ' ']).parse().ok()?,
            None => 0,
        };
        parts.next().is_none().then(|| Fault { name, action, skip, reached: AtomicU64::new(0) })
    }

    /// A point that a test may have named in `CKPT_FAULT`.
    ///
    /// # Errors
    /// The injected one.
    ///
    /// # Panics
    /// When `CKPT_FAULT` cannot be parsed.
    pub fn point(name: &str) -> io::Result<()> {
        for fault in FAULTS.iter().filter(|f| f.name == name) {
            if fault.reached.fetch_add(1, Ordering::Relaxed) < fault.skip {
                continue;
            }
            match fault.action {
                Action::Kill => {
                    kill(getpid(), Signal::SIGKILL)?;
                    loop {
                        std::thread::park();
                    }
                }
                Action::Stop => kill(getpid(), Signal::SIGSTOP)?,
                Action::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Action::KillPid(pid) => kill(pid, Signal::SIGKILL)?,
                Action::KillParent => kill(getppid(), Signal::SIGKILL)?,
            }
        }
        Ok(())
    }

    #[test]
    fn the_variable_is_understood() {
        for (text, action, skip) in [
            ("a.b:kill", Action::Kill, 0),
            ("a.b:stop", Action::Stop, 0),
            ("a.b:error:skip=3", Action::Error(libc::EIO), 3),
            ("a.b:error=ENOSPC:skip 2", Action::Error(libc::ENOSPC), 2),
            ("a.b:kill-parent", Action::KillParent, 0),
            ("a.b:kill-pid=77", Action::KillPid(Pid::from_raw(77)), 0),
        ] {
            let fault = parse(text).unwrap();
            assert_eq!((fault.name.as_str(), fault.action, fault.skip), ("a.b", action, skip));
        }
        assert!(parse("a.b").is_none() && parse("a.b:explode").is_none() && parse("a:kill:skip=x").is_none());
    }
}
