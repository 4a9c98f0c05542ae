//! `ckpt restore`
use super::args::{PidChoice, Restore};
use super::foreground::Foreground;
use super::{Context, later, print};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::pids;
use crate::protocol::{Answer, Register, Request, Source};
use ckpt_dirty::Tracking;
use ckpt_image::{Image, Store};
use ckpt_restore::{ChangedFiles, OutsideConnections, RestoreRequest};
use std::os::fd::{AsFd, OwnedFd};

/// Changed files that are named.
const TOLD_MAX: usize = 10;

/// Brings a checkpoint back; in the foreground, ends as the program ends.
pub(crate) fn restore(context: &Context, options: &Restore) -> Outcome<u8> {
    if options.lazy {
        return Err(later("--lazy"));
    }
    if options.pid == PidChoice::New {
        return Err(later("--pid new"));
    }
    let store = Store::open(&context.store)?;
    let id = super::resolve(&store, &options.target)?;
    let image = store.image(&id)?;
    Client::of_existing(&context.store)?.forget_tickets(&image.manifest().job);
    pids::wait_until_free(&image).map_err(|failure| explain(failure, options.pid))?;
    let tcp = options.tcp.into();
    let files = options.files.map(ChangedFiles::from).unwrap_or_default();
    tell_changes(&image, files)?;
    if options.detach {
        detached(context, &image, tcp, files)
    } else {
        foreground(context, &image, tcp, files)
    }
}

/// `--pid auto` promises a way out that does not exist yet.
fn explain(mut failure: Failure, choice: PidChoice) -> Failure {
    if choice == PidChoice::Auto {
        let way_out = "restoring under other pids, in a PID namespace, comes with a later release";
        failure.remedy = Some(match failure.remedy {
            Some(remedy) => format!("{remedy} ({way_out})"),
            None => way_out.into(),
        });
    }
    failure
}

/// Names the files that are not what they were, and that the program gets all the same.
fn tell_changes(image: &Image, files: ChangedFiles) -> Outcome<()> {
    let changed = ckpt_restore::changed_files(image, files)?;
    for file in changed.iter().take(TOLD_MAX) {
        let code = if file.code { " (code that the program runs)" } else { "" };
        tracing::warn!(
            "{}{code} is not what it was at the checkpoint, and stays as it is: {}",
            file.path,
            file.what
        );
    }
    if changed.len() > TOLD_MAX {
        tracing::warn!(
            "and {} more files (`--files check` refuses if any has changed)",
            changed.len() - TOLD_MAX
        );
    }
    Ok(())
}

fn detached(context: &Context, image: &Image, tcp: OutsideConnections, files: ChangedFiles) -> Outcome<u8> {
    let request = Request::Restore { id: image.manifest().id.to_string(), tcp, files };
    let Answer::Restored { job, pid } = Client::of_existing(&context.store)?.call(&request, &[])? else {
        return Err(Failure::new("the daemon gave an answer to another question"));
    };
    if context.json {
        print::line(serde_json::json!({ "id": image.manifest().id, "job": job, "pid": pid }).to_string());
    } else {
        print::line(pid.to_string());
    }
    Ok(0)
}

fn foreground(
    context: &Context,
    image: &Image,
    outside: OutsideConnections,
    changed_files: ChangedFiles,
) -> Outcome<u8> {
    let foreground = Foreground::prepare()?;
    let restored = ckpt_restore::restore(&RestoreRequest {
        image,
        stdio: [0, 1, 2],
        track: true,
        outside,
        changed_files,
    })?;
    let tracking = restored.tracking.map(Tracking::into_fds).unwrap_or_default();
    if let Err(failure) = register(context, image, restored.root_pid, tracking) {
        eprintln!("ckpt: {} runs unprotected: {}", image.manifest().job, failure.message);
    }
    foreground.wait(restored.root_pid)
}

/// Hands the program over to the daemon, so that its next checkpoint is incremental.
fn register(context: &Context, image: &Image, pid: i32, tracking: Vec<(i32, OwnedFd)>) -> Outcome<()> {
    let request = Request::Register(Register {
        pid: Some(pid),
        name: Some(image.manifest().job.clone()),
        default_name: None,
        every: None,
        source: Source::Restore,
        tracked: tracking.iter().map(|(pid, _)| *pid).collect(),
        since: Some(image.manifest().id.to_string()),
    });
    let fds: Vec<_> = tracking.iter().map(|(_, fd)| fd.as_fd()).collect();
    if let Answer::Registered { job } = Client::of_existing(&context.store)?.call(&request, &fds)? {
        tracing::info!("protected as job {job}");
    }
    Ok(())
}
