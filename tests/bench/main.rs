//! The benchmark: pauses as a program itself sees them, what checkpoints cost and how big they are. `ci/bench` runs it.
//!
//! bench [--short] [--json FILE] [--svg FILE]
mod floors;
mod load;
mod measure;
mod report;
mod subject;
mod tools;

use ckpt_tests::Sandbox;
use measure::Times;
use report::Report;
use std::time::Duration;
use subject::Shape;
use tools::{Ckpt, Criu, Dmtcp, Tool};

/// The shapes: one thing at a time differs from a program of 1 GiB, 1 %/s dirty, 8 threads and 10 descriptors.
fn shapes(short: bool) -> Vec<Shape> {
    let usual = Shape { mib: 1024, dirty: 10, threads: 8, fds: 10 };
    if short {
        return vec![Shape { mib: 64, ..usual }, Shape { mib: 64, threads: 64, fds: 100, ..usual }];
    }
    let mut all = vec![usual];
    all.extend([64, 4096, 12288].map(|mib| Shape { mib, ..usual }));
    // The same bytes a second, of more memory.
    all.push(Shape { mib: 12288, dirty: 1, ..usual });
    all.extend([1, 100, 500].map(|dirty| Shape { dirty, ..usual }));
    all.extend([1, 16, 256].map(|threads| Shape { threads, ..usual }));
    all.extend([1000, 10000].map(|fds| Shape { fds, ..usual }));
    all
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!("Linux {}, {processors} × {model}", read("/proc/sys/kernel/osrelease").trim())
}

/// Measures; what there is so far goes to `keep` each time, for a whole run takes its time.
fn run(sandbox: &Sandbox, short: bool, keep: impl Fn(&Report)) -> Report {
    let mut report = Report { machine: machine(), ..Report::default() };
    let dir = sandbox.dir().join("beat");
    std::fs::create_dir(&dir).expect("directory");
    let mut tools: Vec<Box<dyn Tool + '_>> = vec![Box::new(Ckpt::new(sandbox))];
    tools.extend(Criu::find(&dir).map(|tool| Box::new(tool) as Box<dyn Tool>));
    tools.extend(Dmtcp::find(&dir).map(|tool| Box::new(tool) as Box<dyn Tool>));
    report.floors = floors::measure(&dir);
    for shape in shapes(short) {
        for tool in &mut tools {
            eprintln!("{}: {shape:?}", tool.name());
            // Others take minutes for a large program.
            let times = match tool.name() {
                report::OURS => Times { saves: if short { 2 } else { 5 }, restores: 3 },
                _ => Times { saves: 2, restores: 1 },
            };
            report.figures.push(measure::measure(tool.as_mut(), &dir, shape, times));
            keep(&report);
        }
    }
    if !short {
        let every = [Duration::from_secs(1), Duration::from_millis(100)];
        eprintln!("redis under load");
        report.throughput.extend(load::redis(sandbox, &every, 3));
        keep(&report);
        eprintln!("PostgreSQL under load");
        report.throughput.extend(load::postgres(sandbox, &every[..1], 3));
    }
    report
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let short = arguments.iter().any(|argument| argument == "--short");
    let keep = |report: &Report| {
        if let Some(file) = value("--json") {
            let text = serde_json::to_string_pretty(report).expect("JSON") + "\n";
            std::fs::write(file, text).expect("the JSON file");
        }
        if let Some(file) = value("--svg") {
            std::fs::write(file, report.picture()).expect("the SVG file");
        }
    };
    let report = run(&Sandbox::new().with_effort("auto"), short, keep);
    keep(&report);
    print!("{}\n{}", report.machine, report.table());
}
