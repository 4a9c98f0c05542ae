//! How results are printed.
use ckpt_image::{Kind, Manifest};
use humantime::format_rfc3339_seconds;
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

/// JSON on one line.
pub(super) fn json(value: &impl Serialize) -> String {
    // The types printed have string keys and finite numbers only, for which serialising cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// A line of results. A reader that has gone away (`ckpt list | head -1`) is no error.
pub(super) fn line(text: impl AsRef<str>) {
    let _ = writeln!(io::stdout().lock(), "{}", text.as_ref());
}

/// When a checkpoint was begun, in UTC.
pub(super) fn created(manifest: &Manifest) -> String {
    format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(manifest.created_ns)).to_string()
}

/// `full` or `incremental`.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "full",
        Kind::Incremental => "incremental",
    }
}

/// Microseconds, as people read them.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

/// What `list` and `show` tell of a checkpoint, and `--json` prints of it.
#[derive(Serialize)]
pub(super) struct Checkpoint<'a> {
    id: &'a str,
    job: &'a str,
    kind: &'static str,
    parent: Option<&'a str>,
    created: String,
    bytes_stored: u64,
    #[serde(flatten)]
    stats: ckpt_image::Stats,
}

impl<'a> Checkpoint<'a> {
    /// The checkpoint that `manifest` makes.
    pub(super) fn of(manifest: &'a Manifest) -> Self {
        Self {
            id: manifest.id.as_str(),
            job: &manifest.job,
            kind: kind(manifest.kind),
            parent: manifest.parent.as_ref().map(ckpt_image::CheckpointId::as_str),
            created: created(manifest),
            bytes_stored: manifest.bytes(),
            stats: manifest.stats,
        }
    }
}
