//! What checkpoints cost a server under load: its throughput with one every so often, over that without.
use crate::measure::median;
use ckpt_tests::process::Process;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, real};
use serde::Serialize;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Throughput of a server. Requests or transactions a second, the median of some runs each.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Throughput {
    pub(crate) server: &'static str,
    /// Between two checkpoints, milliseconds.
    pub(crate) every_ms: u64,
    pub(crate) without: f64,
    pub(crate) with: f64,
    /// Checkpoints that were made.
    pub(crate) checkpoints: u64,
}

/// Runs `load` by turns without and with a checkpoint every so often.
fn compare(
    sandbox: &Sandbox,
    server: &'static str,
    every: Duration,
    runs: usize,
    mut load: impl FnMut() -> f64 + Send,
) -> Throughput {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut checkpoints = 0;
    for _ in 0..runs {
        without.push(load());
        std::thread::scope(|scope| {
            let loaded = scope.spawn(&mut load);
            while !loaded.is_finished() {
                let begin = Instant::now();
                sandbox.save(server);
                checkpoints += 1;
                std::thread::sleep(every.saturating_sub(begin.elapsed()));
            }
            with.push(loaded.join().expect("the load"));
        });
        sandbox.ckpt(["prune", server, "--keep", "1"]).done();
    }
    let middle = |all| median(all).unwrap_or(0.0);
    let every_ms = u64::try_from(every.as_millis()).unwrap_or(0);
    Throughput { server, every_ms, without: middle(without), with: middle(with), checkpoints }
}

fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

/// redis-server under redis-benchmark: SET of random keys.
pub(crate) fn redis(sandbox: &Sandbox, every: &[Duration], runs: usize) -> Vec<Throughput> {
    const PORT: &str = "6399";
    let dir = sandbox.dir().join("redis");
    let mut command = Command::new("redis-server");
    command.args(["--port", PORT, "--save", "", "--appendonly", "no"]);
    let server = real::start(sandbox, &dir, "redis", &mut command, false);
    until("redis listens", || TcpStream::connect(("127.0.0.1", 6399)).is_ok().then_some(()));
    let load = || {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", PORT, "-t", "set", "-r", "1000000", "-n", "300000", "-d", "64", "--csv"]);
        let text = output(&mut command);
        let line = text.lines().find(|line| line.starts_with("\"SET\"")).expect("a line on SET");
        let number = line.split(',').nth(1).expect("requests a second");
        number.trim_matches('"').parse().expect("a number")
    };
    load();
    sandbox.attach(server.pid(), "redis");
    every.iter().map(|every| compare(sandbox, "redis", *every, runs, load)).collect()
}

/// PostgreSQL under pgbench.
pub(crate) fn postgres(sandbox: &Sandbox, every: &[Duration], runs: usize) -> Vec<Throughput> {
    const USER: [&str; 4] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];
    let dir = sandbox.dir().join("postgres");
    std::fs::create_dir_all(&dir).expect("directory");
    let Some(programs) = postgres_programs() else { return Vec::new() };
    let as_user = |program: &Path| {
        let mut command = Command::new(USER[0]);
        command.args(&USER[1..]).arg(program).current_dir(&dir).stdin(Stdio::null());
        command
    };
    output(Command::new("chown").arg("postgres").arg(&dir));
    let data = dir.join("data");
    output(as_user(&programs.join("initdb")).arg("-D").arg(&data).args(["-A", "trust"]));
    let mut command = as_user(&programs.join("postgres"));
    command.arg("-D").arg(&data).args(["-p", "5499", "-c", "max_parallel_workers=0", "-k"]).arg(&dir);
    let server: Process = real::start(sandbox, &dir.join("log"), "postgres", &mut command, false);
    let client = |program: &str| {
        let mut command = as_user(&programs.join(program));
        command.args(["-h", "127.0.0.1", "-p", "5499"]);
        command
    };
    until("PostgreSQL answers", || {
        client("pg_isready").output().is_ok_and(|o| o.status.success()).then_some(())
    });
    output(client("pgbench").args(["-i", "-s", "5", "-q", "postgres"]));
    sandbox.attach(server.pid(), "postgres");
    let load = || {
        let text = output(client("pgbench").args(["-T", "8", "-c", "4", "-n", "postgres"]));
        let line = text.lines().find_map(|line| line.strip_prefix("tps = ")).expect("a line on tps");
        line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    every.iter().map(|every| compare(sandbox, "postgres", *every, runs, load)).collect()
}

/// Where Debian has the programs of the server.
fn postgres_programs() -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|entry| entry.path().join("bin")).find(|bin| bin.join("initdb").exists())
}
