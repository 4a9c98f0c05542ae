//! `ckpt run`
use super::args::Run;
use super::foreground::Foreground;
use super::{Context, later};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::protocol::{Answer, Register, Request, Source};
use crate::{every, job_name};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, execvp, fork, pipe2};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;

/// Exit statuses of shells and env(1) for a program that cannot be started.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Starts a program under protection, and ends as it ends.
pub(crate) fn run(context: &Context, options: Run) -> Outcome<u8> {
    if !options.protection.data.is_empty() {
        return Err(later("--data"));
    }
    options.protection.name.as_deref().map(job_name::check).transpose()?;
    options.protection.every.as_deref().map(every::parse).transpose()?;
    options.protection.kept.parse()?;
    let shown = options.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let arguments = options
        .command
        .into_iter()
        .map(|argument: OsString| CString::new(argument.into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Failure::usage("an argument holds a NUL byte"))?;
    // A store that cannot be used is for the user to set right; a daemon that cannot be started is not.
    let client = Client::of_store(&context.store)?;
    let foreground = Foreground::prepare()?;
    let mut child = Child::fork(&foreground, &arguments)?;
    let request = Request::Register(Register {
        pid: Some(child.pid),
        name: options.protection.name,
        default_name: Some(shown.clone()),
        every: options.protection.every,
        source: Source::Run,
        tracked: Vec::new(),
        since: None,
        keeps: true,
        keep: options.protection.kept.keep.map(|n| n.to_string()),
        keep_for: options.protection.kept.keep_for,
        filling: false,
    });
    // The connection is kept until the program's first instruction: until then the daemon saves nothing.
    let connection = match register(&client, &request) {
        Ok(connection) => Some(connection),
        Err(failure) if failure.code == crate::failure::WRONG_USAGE => return Err(failure),
        Err(failure) => {
            eprintln!("ckpt: {shown} runs unprotected: {}", failure.message);
            None
        }
    };
    // Not before the daemon runs, which leaves whoever started it behind as an orphan.
    if connection.is_some() {
        crate::worker::keeper::adopt_orphans()?;
    }
    let started = child.start();
    drop(connection);
    let status = foreground.wait(child.pid)?;
    match started {
        Ok(()) => Ok(status),
        Err(errno) => {
            let code = if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
            Err(Failure { code, ..Failure::new(format!("cannot start {shown}: {}", errno.desc())) })
        }
    }
}

fn register(client: &Client, request: &Request) -> Outcome<UnixStream> {
    let (answer, connection) = client.call_and_hold(request, &[])?;
    match answer {
        Answer::Registered { job } => tracing::info!("protected as job {job}"),
        Answer::Covered { job } => tracing::info!("already part of job {job}"),
        _ => return Err(Failure::new("the daemon gave an answer to another question")),
    }
    Ok(connection)
}

/// A child that waits for a word before it executes the program. Without that word it ends.
struct Child {
    pid: i32,
    go: File,
    /// At its end once the program runs; before that, the errno of a start that failed.
    trouble: File,
}

impl Child {
    fn fork(foreground: &Foreground, arguments: &[CString]) -> Outcome<Self> {
        let fail = |errno: Errno| Failure::new(format!("cannot start a process: {errno}"));
        let (wait, go) = pipe2(OFlag::O_CLOEXEC).map_err(fail)?;
        let (trouble, tell) = pipe2(OFlag::O_CLOEXEC).map_err(fail)?;
        // SAFETY: this process has one thread, so that the child may do all that the parent could.
        match unsafe { fork() }.map_err(fail)? {
            ForkResult::Parent { child } => {
                Ok(Self { pid: child.as_raw(), go: go.into(), trouble: trouble.into() })
            }
            ForkResult::Child => {
                drop((go, trouble));
                if File::from(wait).read(&mut [0]).is_ok_and(|bytes| bytes == 1) {
                    let errno =
                        match foreground.undo_in_child().and_then(|()| execvp(&arguments[0], arguments)) {
                            Err(errno) => errno,
                            Ok(never) => match never {},
                        };
                    let _ = File::from(tell).write_all(&(errno as i32).to_le_bytes());
                }
                // SAFETY: _exit(2) leaves the parent's buffers and exit handlers alone.
                unsafe { libc::_exit(i32::from(NOT_FOUND)) }
            }
        }
    }

    /// Lets the program start.
    fn start(&mut self) -> Result<(), Errno> {
        // A child that was killed meanwhile is no failure to start: its status says what happened.
        let _ = self.go.write_all(&[1]);
        let mut errno = [0; 4];
        match self.trouble.read_exact(&mut errno) {
            Ok(()) => Err(Errno::from_raw(i32::from_le_bytes(errno))),
            Err(_) => Ok(()),
        }
    }
}
