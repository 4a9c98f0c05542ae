//! `ckpt show`: from the files alone.
mod summary;

use super::Context;
use super::print;
use crate::failure::Outcome;
use ckpt_image::Store;
use indicatif::HumanBytes;
use summary::Summary;

/// Shows what an image holds.
pub(crate) fn show(context: &Context, target: &str) -> Outcome<()> {
    let store = Store::open(&context.store)?;
    let id = super::resolve(&store, target)?;
    let image = store.image(&id)?;
    let summary = Summary::of(&image)?;
    if context.json {
        print::line(print::json(&summary));
        return Ok(());
    }
    let manifest = image.manifest();
    let stats = &manifest.stats;
    print::line(format!("checkpoint  {} of job {}", manifest.id, manifest.job));
    let chain: Vec<_> = image.chain().iter().map(ckpt_image::CheckpointId::as_str).collect();
    print::line(format!("kind        {}; chain: {}", print::kind(manifest.kind), chain.join(" > ")));
    let inventory = &summary.inventory;
    print::line(format!(
        "taken       {} on {} ({}, Linux {}) by ckpt {}",
        print::created(manifest),
        inventory.hostname,
        inventory.machine,
        inventory.kernel_release,
        inventory.ckpt_version
    ));
    print::line(format!(
        "cost        paused {}; {} of {} pages dirty; {} of memory; {} written in {}",
        print::micros(stats.pause_us),
        stats.pages_dirty,
        stats.pages_scanned,
        HumanBytes(stats.bytes_memory),
        HumanBytes(stats.bytes_written),
        print::micros(stats.duration_us)
    ));
    print::line(format!(
        "holds       {} of memory with its chain, {} in its own files",
        HumanBytes(summary.memory_bytes),
        HumanBytes(manifest.bytes())
    ));
    for task in &summary.tasks {
        print::line(format!(
            "task        pid {} {}: {} threads, {} mappings, {} mapped",
            task.pid,
            task.exe,
            task.threads.len(),
            task.mappings,
            HumanBytes(task.mapped_bytes)
        ));
        for file in &task.files {
            print::line(format!("  fd {:<5}  {}", file.fd, file.what));
        }
    }
    Ok(())
}
