//! Who runs: the live jobs, written down beside the socket. A daemon reads it to take over the jobs of the one before it,
//! and `ckpt list` when no daemon answers. Checkpoints are in the store; losing this file loses none.
use crate::endpoint::Endpoint;
use crate::keep::Keep;
use crate::protocol::{LiveJob, Source};
use crate::target;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

/// The file's contents.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Roster {
    /// Pids and start times mean something within one boot only.
    boot_id: String,
    jobs: Vec<Entry>,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// Its root process.
    pub(crate) pid: i32,
    /// When that was started, so that no other process is taken for it.
    pub(crate) start_time: u64,
    /// How it came under protection.
    pub(crate) source: Source,
    /// Milliseconds between checkpoints.
    pub(crate) every_ms: Option<u64>,
    /// Which of its checkpoints are kept.
    #[serde(default)]
    pub(crate) keep: Keep,
    /// Its last checkpoint.
    pub(crate) last: Option<String>,
    /// Its keeper, and when that was started.
    #[serde(default)]
    pub(crate) keeper: Option<(i32, u64)>,
    /// Its processes at the last checkpoint, and when they were started.
    #[serde(default)]
    pub(crate) members: BTreeMap<i32, u64>,
}

impl Roster {
    /// The roster of these jobs, now.
    pub(crate) fn of(jobs: Vec<Entry>) -> Self {
        Self { boot_id: boot_id(), jobs }
    }

    /// Writes it down.
    pub(crate) fn write(&self, endpoint: &Endpoint) -> io::Result<()> {
        let path = endpoint.jobs();
        let new = path.with_extension("jobs.new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        std::fs::rename(&new, &path)
    }

    /// What was written down last; empty when nothing was, or when it cannot be read.
    pub(crate) fn read(endpoint: &Endpoint) -> Self {
        let Ok(text) = std::fs::read(endpoint.jobs()) else { return Self::default() };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!("{} is not readable: {error}", endpoint.jobs().display());
            Self::default()
        })
    }

    /// Those of its jobs that still run.
    pub(crate) fn survivors(self) -> Vec<Entry> {
        if self.boot_id != boot_id() {
            return Vec::new();
        }
        let runs = |entry: &Entry| target::still_runs(entry.pid, entry.start_time);
        self.jobs.into_iter().filter(runs).collect()
    }
}

impl From<Entry> for LiveJob {
    fn from(entry: Entry) -> Self {
        Self {
            job: entry.name,
            pid: entry.pid,
            source: entry.source,
            every_ms: entry.every_ms,
            saving: false,
            last: entry.last,
            last_error: None,
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
