//! `ckpt restore`
use super::args::{CgroupsChoice, PidChoice, Restore};
use super::foreground::Foreground;
use super::{Context, print};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::home::{Home, Restored};
use crate::protocol::{Answer, PidNamespace, Register, Request, Source};
use ckpt_image::record::NamespacesV1;
use ckpt_image::{Image, ImageRecords, Store};
use ckpt_restore::{CgroupRoot, ChangedFiles, OutsideConnections, RestoreRequest, RootBirth};
use std::os::fd::AsFd;

/// Changed files that are named.
const TOLD_MAX: usize = 10;

/// Brings a checkpoint back; in the foreground, ends as the program ends.
pub(crate) fn restore(context: &Context, options: &Restore) -> Outcome<u8> {
    let store = Store::open(&context.store)?;
    let id = super::resolve(&store, &options.target)?;
    let image = store.image_records(&id)?;
    Client::of_existing(&context.store)?.forget_tickets(&image.manifest().job);
    tracing::trace!(name = "restore.records");
    let pids = choose(context, &image, options.pid)?;
    tracing::trace!(name = "restore.home");
    let files = options.files.map(ChangedFiles::from).unwrap_or_default();
    tell_changes(&image, files)?;
    let cgroups = (options.cgroups == CgroupsChoice::Restore).then(|| options.cgroup_root.clone());
    let how = How { outside: options.tcp.into(), files, pids, cgroups, lazy: options.lazy };
    if options.detach { detached(context, &image, how) } else { foreground(context, &store.image(&id)?, how) }
}

/// Which pids the job gets: with `auto`, those of a new PID namespace if one of its own is taken here.
fn choose(context: &Context, image: &ImageRecords, choice: PidChoice) -> Outcome<PidNamespace> {
    match choice {
        PidChoice::Same => Ok(PidNamespace::Ours),
        PidChoice::New => Ok(PidNamespace::New),
        PidChoice::Auto => match Home::of(image, PidNamespace::AsItWas) {
            Ok(_) => Ok(PidNamespace::AsItWas),
            Err(taken) => {
                // Where there can be none either, that failure comes next.
                if !context.quiet {
                    eprintln!("ckpt: restoring in a new PID namespace: {}", taken.message);
                }
                Ok(PidNamespace::New)
            }
        },
    }
}

/// What the user chose.
struct How {
    outside: OutsideConnections,
    files: ChangedFiles,
    pids: PidNamespace,
    /// Where its control groups go; None: it is in ours.
    cgroups: Option<Vec<CgroupRoot>>,
    /// It runs before its memory is there.
    lazy: bool,
}

/// Names the files that are not what they were, and that the program gets all the same.
fn tell_changes(image: &ImageRecords, files: ChangedFiles) -> Outcome<()> {
    // Paths of a job with mounts of its own mean something there only.
    let namespaces = image.records::<NamespacesV1>()?.into_iter().next();
    if namespaces.is_some_and(|namespaces| namespaces.mount.is_some()) {
        return Ok(());
    }
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

fn detached(context: &Context, image: &ImageRecords, how: How) -> Outcome<u8> {
    let How { outside: tcp, files, pids, cgroups, lazy } = how;
    let request = Request::Restore { id: image.manifest().id.to_string(), tcp, files, pids, cgroups, lazy };
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

fn foreground(context: &Context, image: &Image, how: How) -> Outcome<u8> {
    let foreground = Foreground::prepare()?;
    let home = Home::of(image, how.pids)?;
    let request = RestoreRequest {
        image,
        stdio: [0, 1, 2],
        track: true,
        outside: how.outside,
        changed_files: how.files,
        root: RootBirth::default(),
        cgroups: None,
        filling: None,
    };
    let restored = home.restore(request, how.cgroups.as_deref(), how.lazy)?;
    if let Err(failure) = register(context, image, &restored) {
        eprintln!("ckpt: {} runs unprotected: {}", image.manifest().job, failure.message);
    }
    foreground.wait(restored.pid)
}

/// Hands the program over to the daemon, so that its next checkpoint is incremental.
fn register(context: &Context, image: &Image, restored: &Restored) -> Outcome<()> {
    let request = Request::Register(Register {
        pid: Some(restored.pid),
        name: Some(image.manifest().job.clone()),
        default_name: None,
        every: None,
        source: Source::Restore,
        tracked: restored.tracking.iter().map(|(pid, _)| *pid).collect(),
        since: Some(image.manifest().id.to_string()),
        keeps: true,
        keep: None,
        keep_for: None,
        filling: restored.filling.is_some(),
    });
    let tracking = restored.tracking.iter().map(|(_, fd)| fd.as_fd());
    let fds: Vec<_> = tracking.chain(restored.filling.iter().map(AsFd::as_fd)).collect();
    if let Answer::Registered { job } = Client::of_existing(&context.store)?.call(&request, &fds)? {
        tracing::info!("protected as job {job}");
    }
    Ok(())
}
