//! `ckpt list`
use super::Context;
use super::print::{self, Checkpoint};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::protocol::{Answer, LiveJob, Request};
use ckpt_image::{Manifest, Store, StoreError};
use indicatif::HumanBytes;
use serde::Serialize;
use std::time::Duration;

/// A job, and what `--json` prints of it.
#[derive(Serialize)]
struct Entry<'a> {
    job: &'a str,
    /// `running`, `unprotected` (it runs, but no daemon does) or `ended`.
    state: &'static str,
    pid: Option<i32>,
    every_ms: Option<u64>,
    saving: bool,
    last_error: Option<&'a str>,
    checkpoints: Vec<Checkpoint<'a>>,
}

/// Lists jobs and their checkpoints, newest last.
pub(crate) fn list(context: &Context, only: Option<&str>) -> Outcome<()> {
    let wanted = |job: &str| only.is_none_or(|only| only == job);
    let saved = saved(context)?;
    let (live, protected) = live(context);
    let mut names: Vec<&str> = Vec::new();
    // By their newest checkpoint; those that have none yet come last, in the order in which they were started.
    for name in saved.iter().rev().map(|manifest| manifest.job.as_str()) {
        if wanted(name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names.reverse();
    for job in &live {
        if wanted(&job.job) && !names.contains(&job.job.as_str()) {
            names.push(&job.job);
        }
    }
    if let (Some(only), true) = (only, names.is_empty()) {
        return Err(Failure::new(format!("no job named {only} runs or has checkpoints"))
            .remedy("`ckpt list` shows all jobs"));
    }
    for name in names {
        let entry = entry(name, &saved, live.iter().find(|job| job.job == name), protected);
        if context.json {
            print::line(print::json(&entry));
        } else {
            print_entry(&entry, &saved);
        }
    }
    Ok(())
}

fn saved(context: &Context) -> Outcome<Vec<Manifest>> {
    match Store::open(&context.store) {
        Ok(store) => Ok(store.checkpoints(None)?),
        // Nobody has saved anything yet.
        Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The live jobs, and whether a daemon looks after them.
fn live(context: &Context) -> (Vec<LiveJob>, bool) {
    let Ok(client) = Client::of_existing(&context.store) else { return (Vec::new(), false) };
    match client.call_running(&Request::Jobs) {
        Ok(Some(Answer::Jobs { jobs })) => (jobs, true),
        Ok(_) => (client.orphans(), false),
        Err(failure) => {
            tracing::warn!("{failure}");
            (client.orphans(), false)
        }
    }
}

fn entry<'a>(name: &'a str, saved: &'a [Manifest], live: Option<&'a LiveJob>, protected: bool) -> Entry<'a> {
    Entry {
        job: name,
        state: match (live, protected) {
            (Some(_), true) => "running",
            (Some(_), false) => "unprotected",
            (None, _) => "ended",
        },
        pid: live.map(|job| job.pid),
        every_ms: live.and_then(|job| job.every_ms),
        saving: live.is_some_and(|job| job.saving),
        last_error: live.and_then(|job| job.last_error.as_deref()),
        checkpoints: saved.iter().filter(|manifest| manifest.job == name).map(Checkpoint::of).collect(),
    }
}

fn print_entry(entry: &Entry<'_>, saved: &[Manifest]) {
    let state = match entry.state {
        "unprotected" => "running, but no daemon is (the next ckpt save starts one)",
        state => state,
    };
    let mut line = format!("{}  {state}", entry.job);
    if let Some(pid) = entry.pid {
        line.push_str(&format!(", pid {pid}"));
    }
    if let Some(every) = entry.every_ms {
        line.push_str(&format!(", every {}", humantime::format_duration(Duration::from_millis(every))));
    }
    if entry.saving {
        line.push_str(", being saved");
    }
    if let Some(error) = entry.last_error {
        line.push_str(&format!(", last attempt failed: {error}"));
    }
    print::line(line);
    for manifest in saved.iter().filter(|manifest| manifest.job == entry.job) {
        print::line(format!(
            "  {}  {:<11}  {}  {:>11}  pause {}",
            manifest.id,
            print::kind(manifest.kind),
            print::created(manifest),
            HumanBytes(manifest.stats.bytes_memory).to_string(),
            print::micros(manifest.stats.pause_us),
        ));
    }
}
