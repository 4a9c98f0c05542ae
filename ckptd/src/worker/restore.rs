//! One detached restore.
use super::{Report, RestoreOrder, RestoreReport};
use crate::failure::{Failure, Outcome};
use crate::home::Home;
use ckpt_image::{CheckpointId, Store};
use ckpt_restore::RestoreRequest;
use std::os::fd::OwnedFd;

pub(super) fn restore(order: RestoreOrder, _: Vec<OwnedFd>) -> Outcome<Report<RestoreReport>> {
    let store = Store::open(&order.store)?;
    let id: CheckpointId = order.id.parse().map_err(Failure::usage)?;
    tracing::trace!(name = "restore.ordered");
    let image = store.image(&id)?;
    tracing::trace!(name = "restore.image");
    let home = Home::of(&image, order.pids)?;
    // The daemon gave this process /dev/null for input and output, and its log for errors, which is not for the program.
    let request = RestoreRequest {
        image: &image,
        stdio: [0, 1, 1],
        track: true,
        outside: order.tcp,
        changed_files: order.files,
        root: Default::default(),
        cgroups: None,
        filling: None,
    };
    let restored = home.restore(request, order.cgroups.as_deref(), order.lazy)?;
    let (tracked, mut fds): (_, Vec<_>) = restored.tracking.into_iter().unzip();
    let (job, pid) = (image.manifest().job.clone(), restored.pid);
    let filling = restored.filling.is_some();
    fds.extend(restored.filling);
    Ok((RestoreReport { job, pid, keeper: std::process::id().cast_signed(), tracked, filling }, fds))
}
