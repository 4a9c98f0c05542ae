//! The command line: what is understood ([`args`]) and one file for each command.
mod args;
mod attach;
mod check;
mod demo;
mod export;
mod foreground;
mod import;
mod list;
mod merge;
mod print;
mod progress;
mod prune;
mod restore;
mod rm;
pub(crate) use rm::give_up_connections;
mod run;
mod save;
mod show;
mod terminal;
mod verify;

use crate::daemon::Spends;
use crate::failure::{Failure, Outcome};
use args::{Cli, Command};
use ckpt_image::{CheckpointId, Store, StoreError};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What holds for every command.
pub(crate) struct Context {
    /// The store's directory; it need not exist.
    pub(crate) store: PathBuf,
    /// Print JSON.
    pub(crate) json: bool,
    /// Print nothing but results and errors.
    pub(crate) quiet: bool,
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { crate::failure::WRONG_USAGE } else { 0 });
        }
    };
    if matches!(cli.command, Command::CaptureWorker | Command::CleanWorker | Command::RestoreWorker) {
        crate::logging::start_daemon();
    } else if !matches!(cli.command, Command::Daemon { .. } | Command::Keeper) {
        crate::logging::start_command(cli.global.verbose, cli.global.quiet);
    }
    if !matches!(cli.command, Command::Run(_)) {
        allow_many_files();
    }
    let context = Context {
        store: crate::store_dir::chosen(cli.global.store),
        json: cli.global.json,
        quiet: cli.global.quiet,
    };
    match dispatch(&context, cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("ckpt: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(context: &Context, command: Command) -> Outcome<u8> {
    match command {
        Command::Run(options) => return run::run(context, options),
        Command::Restore(options) => return restore::restore(context, &options),
        Command::Check { support: true, .. } => {
            check::support(context);
            Ok(())
        }
        Command::Check { pid, .. } => check::check(context, pid),
        Command::Verify { id } => return verify::verify(context, id.as_deref()),
        Command::Attach(options) => attach::attach(context, &options),
        Command::Save(options) => save::save(context, &options),
        Command::List { job } => list::list(context, job.as_deref()),
        Command::Show { id } => show::show(context, &id),
        Command::Merge { target } => merge::merge(context, &target),
        Command::Rm { id } => rm::rm(context, &id),
        Command::Prune { job, keep } => prune::prune(context, &job, &keep),
        Command::Export { id, file } => export::export(context, &id, &file),
        Command::Import { file } => import::import(context, &file),
        Command::Demo => demo::demo(context),
        Command::Daemon { background, memory, effort } => {
            let memory = memory.as_deref().map(crate::memory::parse).transpose()?;
            crate::daemon::run(context.store.clone(), background, Spends { memory, effort })
        }
        Command::CaptureWorker => crate::worker::capture(),
        Command::CleanWorker => crate::worker::clean(),
        Command::MaintainWorker => crate::worker::maintain(),
        Command::RestoreWorker => crate::worker::restore(),
        Command::Keeper => {
            crate::worker::keeper::keep();
            Ok(())
        }
    }?;
    Ok(0)
}

/// Raises the soft limit of open files to the hard one: a long chain needs a descriptor for each of its packs. Not for `run`,
/// whose program would inherit it; a restored program gets its own limits back.
fn allow_many_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where that fails, the store says so when it matters.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The arguments; a program called `ckptd` is `ckpt daemon`.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let called = arguments.first().and_then(|name| std::path::Path::new(name).file_name());
    if called == Some("ckptd".as_ref()) {
        arguments.insert(1, "daemon".into());
    }
    arguments
}

/// The checkpoint that an argument means: an id, or a job's newest one.
fn resolve(store: &Store, target: &str) -> Outcome<CheckpointId> {
    if let Ok(id) = target.parse::<CheckpointId>() {
        match store.manifest(&id) {
            Ok(_) => return Ok(id),
            // It may be a job's name.
            Err(StoreError::NoCheckpoint { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match store.latest(target)? {
        Some(newest) => Ok(newest.id),
        None => Err(Failure::new(format!(
            "{target}: no checkpoint has this id, and no job of this name has one, in {}",
            store.path().display()
        ))
        .remedy("`ckpt list` shows those that exist")),
    }
}

/// For options whose feature does not exist yet: saying so is better than ignoring them.
fn later(option: &str) -> Failure {
    Failure::usage(format!("{option} comes with a later release")).remedy("leave it out for now")
}
