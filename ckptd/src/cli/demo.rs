//! `ckpt demo`: the main job, on a program that knows nothing of ckpt.
mod stage;

use super::Context;
use super::print::micros;
use crate::failure::{Failure, Outcome};
use crate::protocol::Saved;
use indicatif::HumanBytes;
use stage::{Stage, State};

/// Runs the demonstration.
pub(crate) fn demo(_: &Context) -> Outcome<()> {
    let mut stage = Stage::set()?;
    tell(
        "A Perl program counts, and keeps changing the 8 MiB of memory that it holds. It knows nothing of ckpt.",
    );
    stage.start_program()?;
    let pid = stage.pid();
    let state = stage.state_after(&State::default())?;
    tell(&format!("  It runs as pid {pid}: {state}"));

    tell("\nckpt attaches to it and saves it three times while it works.");
    stage.ckpt(&["attach", &pid.to_string(), "--name", "counter"])?;
    let mut saved: Vec<(Saved, State)> = Vec::new();
    let mut last = state;
    for _ in 0..3 {
        last = stage.state_after(&last)?;
        let checkpoint: Saved = stage.ckpt_json(&["save", "counter", "--json"])?;
        tell(&format!(
            "  {} {:<11}  {:>9} of memory, paused for {}; {last}",
            checkpoint.id,
            checkpoint.kind,
            HumanBytes(checkpoint.bytes_memory).to_string(),
            micros(checkpoint.pause_us),
        ));
        saved.push((checkpoint, last.clone()));
    }
    last = stage.state_after(&last)?;
    tell(&format!("  Meanwhile it goes on: {last}"));

    tell("\nNow it is killed with SIGKILL, which no program survives.");
    stage.kill_program()?;
    tell(&format!("  pid {pid} is gone. Its last words: {last}"));

    for (checkpoint, at_save) in saved.iter().rev() {
        tell(&format!("\nckpt restore {}", checkpoint.id));
        stage.forget_state()?;
        let restored = stage.restore(&checkpoint.id)?;
        let first = stage.state_after(&State::default())?;
        tell(&format!("  It runs again, as pid {restored}: {first}"));
        if first.count < at_save.count || first.started != at_save.started || restored != pid {
            return Err(Failure::new(format!(
                "checkpoint {} was taken at {at_save}, but it came back as pid {restored} at {first}",
                checkpoint.id
            )));
        }
        let later = stage.state_after(&first)?;
        tell(&format!(
            "  Seen from outside: it went on from {} to {}, and checked all of its memory each time.",
            first.count, later.count
        ));
        stage.kill_program()?;
    }
    stage.ckpt(&["verify", "-q"])?;
    tell("\nEvery byte in the store is under a checksum, and all of them are right (ckpt verify).");
    let size = stage.store_size();
    stage.strike()?;
    tell(&format!(
        "The three checkpoints took {} on disk; all is cleaned up now.\n\nYour own program:  ckpt run --every 10s -- COMMAND",
        HumanBytes(size)
    ));
    Ok(())
}

/// The story goes to standard output, for whoever watches.
fn tell(text: &str) {
    super::print::line(text);
}
