//! The figures: as a table, as JSON and as a picture.
use crate::load::Throughput;
use crate::measure::Figures;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Kernel, processor and number of processors.
    pub(crate) machine: String,
    /// What the machine itself takes, by name and unit.
    pub(crate) floors: BTreeMap<String, f64>,
    pub(crate) figures: Vec<Figures>,
    pub(crate) throughput: Vec<Throughput>,
}

/// A figure and its name.
type Column = (&'static str, fn(&Figures) -> Option<f64>);

/// The tool that others are held against.
pub(crate) const OURS: &str = "ckpt";

const HEAD: [&str; 16] = [
    "tool",
    "MiB",
    "‰/s",
    "threads",
    "fds",
    "quiet",
    "first: pause",
    "took",
    "MB",
    "next: pause",
    "took",
    "MB",
    "/zstd -1",
    "restore: beat",
    "took",
    "lazy: beat",
];

fn number(value: Option<f64>) -> String {
    value.map_or_else(
        || "-".into(),
        |value| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") },
    )
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn megabytes(bytes: Option<u64>) -> String {
    number(bytes.map(|bytes| bytes as f64 / 1e6))
}

impl Figures {
    fn cells(&self) -> [String; 16] {
        [
            self.tool.to_owned(),
            self.mib.to_string(),
            self.dirty_permille.to_string(),
            self.threads.to_string(),
            self.fds.to_string(),
            number(Some(self.quiet_ms)),
            number(self.first_pause_ms),
            number(self.first_took_ms),
            megabytes(self.first_bytes),
            number(self.pause_ms),
            number(self.took_ms),
            megabytes(self.bytes),
            number(self.bytes_over_zstd),
            number(self.restore_first_beat_ms),
            number(self.restore_took_ms),
            number(self.lazy_first_beat_ms),
        ]
    }

    fn is_of(&self, other: &Self) -> bool {
        let shape = |one: &Self| (one.mib, one.dirty_permille, one.threads, one.fds);
        shape(self) == shape(other)
    }

    /// How many times what it took `ours`.
    fn over(&self, ours: &Self) -> String {
        let columns: [Column; 6] = [
            ("first pause", |one| one.first_pause_ms),
            ("first took", |one| one.first_took_ms),
            ("next pause", |one| one.pause_ms),
            ("next took", |one| one.took_ms),
            ("restore to first beat", |one| one.restore_first_beat_ms),
            ("restore took", |one| one.restore_took_ms),
        ];
        let ratio = |(name, of): &Column| Some(format!("{name} × {}", number(Some(of(self)? / of(ours)?))));
        let ratios: Vec<String> = columns.iter().filter_map(ratio).collect();
        format!("{} over {OURS}, {}: {}", self.tool, self.title(), ratios.join(", "))
    }

    /// What it is, in a few words.
    fn title(&self) -> String {
        format!("{} MiB, {} ‰/s, {} threads, {} fds", self.mib, self.dirty_permille, self.threads, self.fds)
    }
}

impl Report {
    /// Times are milliseconds.
    pub(crate) fn table(&self) -> String {
        let rows: Vec<_> = self.figures.iter().map(Figures::cells).collect();
        let mut text = String::new();
        let line = |cells: [&str; 16], text: &mut String| {
            for (cell, width) in cells.iter().zip([6, 6, 5, 8, 6, 8, 13, 8, 8, 12, 8, 8, 9, 14, 8, 11]) {
                let _ = write!(text, "{cell:>width$}");
            }
            text.push('\n');
        };
        line(HEAD, &mut text);
        for row in &rows {
            line(row.each_ref().map(String::as_str), &mut text);
        }
        for other in self.figures.iter().filter(|figures| figures.tool != OURS) {
            if let Some(ours) = self.figures.iter().find(|ours| ours.tool == OURS && ours.is_of(other)) {
                let _ = writeln!(text, "{}", other.over(ours));
            }
        }
        for (name, value) in &self.floors {
            let _ = writeln!(text, "floor: {name} {value}");
        }
        for row in &self.throughput {
            let Throughput { server, every_ms, without, with, checkpoints } = row;
            let ratio = with / without;
            let _ = writeln!(
                text,
                "{server}: {with:.0}/s with a checkpoint every {every_ms} ms ({checkpoints} made), {without:.0}/s without: {ratio:.2}"
            );
        }
        text
    }

    /// The pauses, a bar for each row, on a logarithmic scale.
    pub(crate) fn picture(&self) -> String {
        const ROW: usize = 22;
        const LEFT: f64 = 330.0;
        const DECADE: f64 = 110.0;
        let height = 60 + ROW * self.figures.len();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"900\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"10\" y=\"20\" font-size=\"14\">Pause that the program sees, incremental checkpoints, median, ms</text>\n"
        );
        for (decade, label) in
            ["0.1", "1", "10", "100", "1000", "10000"].iter().zip(0u8..).map(|(l, d)| (f64::from(d), l))
        {
            let x = LEFT + decade * DECADE;
            let _ = writeln!(
                svg,
                "<line x1=\"{x}\" y1=\"35\" x2=\"{x}\" y2=\"{height}\" stroke=\"#ddd\"/><text x=\"{x}\" y=\"34\" fill=\"#666\">{label}</text>"
            );
        }
        for (row, y) in self.figures.iter().zip((0..).map(|n| 42 + ROW * n)) {
            let pause = row.pause_ms.unwrap_or(0.0);
            let width = ((pause.max(0.1) / 0.1).log10() * DECADE).max(1.0);
            let color = if row.tool == "ckpt" { "#3a7d44" } else { "#999" };
            let (text, middle) = (row.title(), y + 12);
            let _ = writeln!(
                svg,
                "<text x=\"10\" y=\"{middle}\">{} {text}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.0}\" height=\"16\" fill=\"{color}\"/><text x=\"{:.0}\" y=\"{middle}\">{}</text>",
                row.tool,
                LEFT + width + 4.0,
                number(row.pause_ms),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}
