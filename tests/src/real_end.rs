//! Programs that work towards an end: stopped on the way, brought back, and what they leave is compared.
use crate::Sandbox;
use crate::process::{Process, Restored};
use crate::sandbox::id;
use crate::wait::until;

/// Saves a job with `--stop` and restores it, up to `times` times: each time when `progress` has changed. Then waits for its end, which it
/// tells by `ended`. Returns how often it was stopped.
///
/// # Panics
/// When a save or restore is refused, or when it never ends.
pub fn stop_on_the_way(
    sandbox: &Sandbox,
    job: &str,
    mut process: Process,
    times: u32,
    progress: &mut dyn FnMut() -> u64,
    ended: &dyn Fn() -> bool,
) -> u32 {
    let mut restored: Option<Restored> = None;
    let mut stops = 0;
    let mut last = progress();
    while stops < times {
        let over = until("it makes progress", || {
            let now = progress();
            let changed = now != last;
            last = now;
            ended().then_some(true).or(changed.then_some(false))
        });
        if over {
            break;
        }
        let saved = sandbox.ckpt(["save", job, "--stop", "--json"]);
        if saved.status() != 0 && ended() {
            break; // it was faster
        }
        let saved = saved.json();
        match restored.take() {
            Some(restored) => restored.wait_gone(),
            None => drop(process.wait()),
        }
        restored = Some(sandbox.restore(&id(&saved)));
        stops += 1;
    }
    until("its end", || ended().then_some(()));
    match restored {
        Some(restored) => restored.wait_gone(),
        None => drop(process.wait()),
    }
    stops
}
