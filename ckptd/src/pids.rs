//! The pids that a restore needs.
use crate::failure::{Failure, Outcome};
use crate::target::{self, Holder};
use ckpt_image::ImageRecords;
use ckpt_image::record::{DeadTaskV1, TaskV1};
use std::time::{Duration, Instant};

/// How long a pid is waited for whose process has ended but was not reaped yet.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the pids and thread ids of the checkpoint are free, as long as those who have them are dying.
///
/// # Errors
/// When somebody alive has one, or a dead process is never reaped.
pub(crate) fn wait_until_free(image: &ImageRecords) -> Outcome<()> {
    let manifest = image.manifest();
    let deadline = Instant::now() + PATIENCE;
    let living = image.records::<TaskV1>()?.into_iter().flat_map(|task| task.tids);
    let dead = image.records::<DeadTaskV1>()?.into_iter().map(|dead| dead.pid);
    for id in living.chain(dead) {
        loop {
            match target::holder(id) {
                Holder::Nobody => break,
                Holder::Dying(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Holder::Dying(who) => {
                    return Err(Failure::new(format!(
                        "checkpoint {} needs pid {id}, and {who}, which has ended, was not reaped by its parent for {} s",
                        manifest.id,
                        PATIENCE.as_secs()
                    ))
                    .remedy("end that parent, or have it wait for its children"));
                }
                Holder::Alive(who) => {
                    return Err(Failure::new(format!(
                        "checkpoint {} needs pid {id}, which is taken by {who}",
                        manifest.id
                    ))
                    .remedy(format!(
                        "end that process first; if it is the job itself: ckpt save --stop {}",
                        manifest.job
                    )));
                }
            }
        }
    }
    Ok(())
}
