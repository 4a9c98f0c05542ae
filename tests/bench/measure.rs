//! One row of the table: a program of a shape, saved and restored by one tool.
use crate::subject::{Shape, Told};
use crate::tools::Tool;
use ckpt_tests::process::Restored;
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Figures of one tool for one shape. Times are milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) tool: &'static str,
    pub(crate) mib: u64,
    pub(crate) dirty_permille: u64,
    pub(crate) threads: u64,
    pub(crate) fds: u64,
    /// The longest time between two beats in as much time without a save: what the machine itself does to the program.
    pub(crate) quiet_ms: f64,
    /// The longest time between two beats around the first save.
    pub(crate) first_pause_ms: Option<f64>,
    pub(crate) first_took_ms: Option<f64>,
    pub(crate) first_bytes: Option<u64>,
    /// Medians of the saves after it, which are incremental where the tool can do that.
    pub(crate) pause_ms: Option<f64>,
    pub(crate) took_ms: Option<f64>,
    pub(crate) bytes: Option<u64>,
    /// Those bytes over what the pages that had changed take with `zstd -1`.
    pub(crate) bytes_over_zstd: Option<f64>,
    /// Medians of the restores, from the start of the command to the restored program's first beat, and to the command's end.
    pub(crate) restore_first_beat_ms: Option<f64>,
    pub(crate) restore_took_ms: Option<f64>,
    /// The same to the first beat when memory comes later (`--lazy`).
    pub(crate) lazy_first_beat_ms: Option<f64>,
}

pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// A count as a figure to calculate with.
#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
pub(crate) fn figure(count: u64) -> f64 {
    count as f64
}

pub(crate) fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> Option<T> {
    all.sort_by(|a, b| a.partial_cmp(b).expect("figures can be compared"));
    all.get(all.len() / 2).copied()
}

/// How often the program is saved after the first time, and restored in each way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) saves: usize,
    pub(crate) restores: usize,
}

/// Measures.
pub(crate) fn measure(
    tool: &mut dyn Tool,
    dir: &Path,
    shape: Shape,
    Times { saves, restores }: Times,
) -> Figures {
    let mut subject = tool.start(dir, shape);
    let Shape { mib, dirty, threads, fds } = shape;
    let told = subject.told();
    told.forget();
    // So that what a second makes dirty is saved each time.
    let apart = || std::thread::sleep(Duration::from_secs(1));
    apart();
    let mut figures = Figures {
        tool: tool.name(),
        mib,
        dirty_permille: dirty,
        threads,
        fds,
        quiet_ms: ms(told.longest()),
        first_pause_ms: None,
        first_took_ms: None,
        first_bytes: None,
        pause_ms: None,
        took_ms: None,
        bytes: None,
        bytes_over_zstd: None,
        restore_first_beat_ms: None,
        restore_took_ms: None,
        lazy_first_beat_ms: None,
    };
    told.forget();
    let first = tool.save(&subject);
    if let Some(saved) = first {
        figures.first_pause_ms = Some(ms(told.longest()));
        (figures.first_took_ms, figures.first_bytes) = (Some(ms(saved.took)), Some(saved.bytes));
    }
    let (mut pauses, mut took, mut bytes, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let page = subject.compressed_page();
    for _ in 0..saves {
        apart();
        told.forget();
        let Some(saved) = tool.save(&subject) else { break };
        pauses.push(ms(told.longest()));
        took.push(ms(saved.took));
        bytes.push(saved.bytes);
        ratios.extend(saved.dirty_pages.map(|pages| figure(saved.bytes) / (figure(pages.max(1)) * page)));
    }
    figures.bytes_over_zstd = median(ratios).map(|ratio| (ratio * 100.0).round() / 100.0);
    (figures.pause_ms, figures.took_ms, figures.bytes) = (median(pauses), median(took), median(bytes));
    subject.process.kill();
    let told = subject.told();
    (figures.restore_first_beat_ms, figures.restore_took_ms) =
        medians((0..restores).map_while(|_| time_restore(told, || tool.restore())));
    (figures.lazy_first_beat_ms, _) =
        medians((0..restores).map_while(|_| time_restore(told, || tool.restore_lazily())));
    figures
}

/// Of restores: the median time until the first beat, and until the command's end.
fn medians(restores: impl Iterator<Item = (Option<f64>, f64)>) -> (Option<f64>, Option<f64>) {
    let (beats, took): (Vec<_>, Vec<_>) = restores.unzip();
    (median(beats.into_iter().flatten().collect()), median(took))
}

/// Restores the program and ends it: the time until its first beat and until the command's end. None: the tool cannot do it.
fn time_restore(told: &Told, restore: impl FnOnce() -> Option<Restored>) -> Option<(Option<f64>, f64)> {
    let before = told.beats();
    let begin = Instant::now();
    let given_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while told.beats() == before {
                if given_up.load(Ordering::SeqCst) {
                    return None;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            Some(begin.elapsed())
        });
        let restored = restore();
        let took = ms(begin.elapsed());
        if restored.is_some() {
            told.go_on();
        }
        given_up.store(true, Ordering::SeqCst);
        let first_beat = watch.join().ok().flatten().map(ms);
        restored.map(|restored| {
            restored.kill();
            (first_beat, took)
        })
    })
}
