//! redis-server with 100,000 keys, under load from redis-cli.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::mounts::view;
use ckpt_tests::process::{Process, Restored};
use ckpt_tests::real::{Program, start, survive_rounds};
use ckpt_tests::sandbox::id;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

const PORT: u16 = 6379;
const KEYS: u64 = 100_000;

/// Writes `from..=to` with redis-cli: write number `n` sets key `n % KEYS` to `n`. Whether all were acknowledged.
fn write(from: u64, to: u64) -> bool {
    let mut client = Command::new("redis-cli")
        .args(["-p", &PORT.to_string(), "--pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-cli");
    let commands: String = (from..=to).map(|n| format!("SET key:{} {n}\r\n", n % KEYS)).collect();
    // A server that goes away breaks the pipe.
    let _ = client.stdin.take().expect("a pipe").write_all(commands.as_bytes());
    client.wait().expect("redis-cli").success()
}

/// All keys in one request, by a client that keeps trying while the server is away.
fn read_all() -> Vec<Option<u64>> {
    until("redis answers", || {
        let stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
        let mut request = format!("*{}\r\n$4\r\nMGET\r\n", KEYS + 1);
        for key in 0..KEYS {
            let name = format!("key:{key}");
            request += &format!("${}\r\n{name}\r\n", name.len());
        }
        (&stream).write_all(request.as_bytes()).ok()?;
        let mut answer = BufReader::new(&stream);
        let mut line = String::new();
        answer.read_line(&mut line).ok()?;
        assert_eq!(line.trim(), format!("*{KEYS}"));
        (0..KEYS).map(|_| read_bulk(&mut answer)).collect()
    })
}

/// One bulk string of the protocol: a number, or nothing.
fn read_bulk(answer: &mut BufReader<&TcpStream>) -> Option<Option<u64>> {
    let mut line = String::new();
    answer.read_line(&mut line).ok()?;
    let length: i64 = line.strip_prefix('$')?.trim().parse().ok()?;
    let Ok(length) = usize::try_from(length) else { return Some(None) };
    let mut value = vec![0; length + 2];
    answer.read_exact(&mut value).ok()?;
    Some(Some(std::str::from_utf8(&value).ok()?.trim().parse().expect("a number")))
}

/// How many writes the server has seen: each key must hold the last of them that was its own.
fn writes_seen() -> u64 {
    let values = read_all();
    let last = values.iter().flatten().copied().max().unwrap_or(0);
    assert!(last >= KEYS, "the first keys are not there");
    for (key, value) in (0..KEYS).zip(values) {
        let wanted = last - (last - key) % KEYS;
        assert_eq!(value, Some(wanted), "key {key} after write {last}");
    }
    last
}

/// redis-cli writing burst after burst, each on a connection of its own.
struct Load {
    acknowledged: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(after: u64) -> Self {
        let (acknowledged, sent) = (Arc::new(AtomicU64::new(after)), Arc::new(AtomicU64::new(after)));
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(2)));
        let thread = std::thread::spawn({
            let (acknowledged, sent, stop) = (acknowledged.clone(), sent.clone(), stop.clone());
            let begun = begun.clone();
            move || {
                begun.wait();
                while !stop.load(Ordering::SeqCst) {
                    let from = acknowledged.load(Ordering::SeqCst) + 1;
                    sent.store(from + 499, Ordering::SeqCst);
                    if !write(from, from + 499) {
                        break; // the server was killed
                    }
                    acknowledged.store(from + 499, Ordering::SeqCst);
                }
            }
        });
        begun.wait();
        Load { acknowledged, sent, stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the load");
    }
}

struct Redis {
    /// The load while it runs; without one, writes are made between saves.
    load: Option<Load>,
    under_load: bool,
    written: u64,
    data: Option<PathBuf>,
}

impl Redis {
    fn end_load(&mut self) {
        if let Some(load) = self.load.take() {
            load.stop();
        }
    }
}

impl Program for Redis {
    fn job(&self) -> &'static str {
        "redis"
    }

    fn work(&mut self) {
        if !self.under_load {
            assert!(write(self.written + 1, self.written + 3000), "redis-cli was refused");
            self.written += 3000;
            return;
        }
        let load = self.load.get_or_insert_with(|| Load::start(self.written));
        let from = load.acknowledged.load(Ordering::SeqCst);
        until("the load goes on", || (load.acknowledged.load(Ordering::SeqCst) > from + 1000).then_some(()));
        // What is wrong before it is saved is told from what a checkpoint has wrong.
        writes_seen();
    }

    fn state(&mut self) -> u64 {
        self.load.as_ref().map_or(self.written, |load| load.acknowledged.load(Ordering::SeqCst))
    }

    fn most(&mut self) -> u64 {
        self.load.as_ref().map_or(self.written, |load| load.sent.load(Ordering::SeqCst))
    }

    fn forget(&mut self) {
        self.end_load();
    }

    fn first_state(&mut self) -> u64 {
        self.written = writes_seen();
        self.written
    }

    fn data_files(&self) -> Option<&Path> {
        self.data.as_deref()
    }
}

fn start_redis(sandbox: &Sandbox, dir: &Path, append_only: bool) -> Process {
    start_redis_by(Command::new("redis-server"), sandbox, dir, append_only)
}

/// A container: its root directory is in memory, and has of this machine what redis needs, and the directory `dir`.
fn in_container(dir: &Path) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-ipc", "--unshare-uts", "--hostname", "container", "--ro-bind", "/usr", "/usr"]);
    for (of, link) in [("usr/bin", "/bin"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64")] {
        command.args(["--symlink", of, link]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    command.arg("--bind").args([dir, dir]).arg("redis-server");
    command
}

fn start_redis_by(mut command: Command, sandbox: &Sandbox, dir: &Path, append_only: bool) -> Process {
    let append_only = if append_only { "yes" } else { "no" };
    command.args(["--port", &PORT.to_string(), "--save", "", "--appendonly", append_only]);
    command.args(["--appendfsync", "no"]);
    let process = start(sandbox, dir, "redis", &mut command, false);
    until("redis listens", || TcpStream::connect(("127.0.0.1", PORT)).is_ok().then_some(()));
    assert!(write(1, KEYS), "the first keys");
    sandbox.attach(process.pid(), "redis");
    process
}

#[test]
fn real_redis_in_memory_under_load() {
    isolated(|sandbox| {
        let process = start_redis(sandbox, &sandbox.dir().join("redis"), false);
        let mut redis = Redis { load: None, under_load: true, written: KEYS, data: None };
        survive_rounds(sandbox, &mut redis, process);
        redis.end_load();
    });
}

#[test]
fn real_redis_with_append_only_file() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("redis");
        let process = start_redis(sandbox, &dir, true);
        let data = dir.join("appendonlydir");
        let mut redis = Redis { load: None, under_load: false, written: KEYS, data: Some(data.clone()) };
        let restored = survive_rounds(sandbox, &mut redis, process);
        // A server that starts from the file has the state of the one that wrote it.
        restored.kill();
        Ran::of(Command::new("redis-check-aof").arg(data.join("appendonly.aof.manifest"))).done();
        let mut command = Command::new("redis-server");
        command.args(["--port", &PORT.to_string(), "--save", "", "--appendonly", "yes"]);
        let _server = start(sandbox, &dir, "fresh", &mut command, false);
        until("redis has loaded", || {
            let ping = Command::new("redis-cli").arg("ping").output().expect("redis-cli");
            (ping.stdout == b"PONG\n").then_some(())
        });
        assert_eq!(writes_seen(), redis.written, "a new server on the restored one's file");
    });
}

#[test]
fn real_redis_in_a_container_under_load() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("redis");
        let process = start_redis_by(in_container(&dir), sandbox, &dir, false);
        // The server is in a mount, an IPC and a UTS namespace that bwrap, which waits for it, is not in.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid()));
        let server: i32 = children.expect("bwrap's children").trim().parse().expect("one child");
        let before = view(server);
        assert!(before.iter().any(|line| line.starts_with("/newroot / ")), "bwrap has changed: {before:?}");
        let mut redis = Redis { load: None, under_load: true, written: KEYS, data: None };
        let _restored = survive_rounds(sandbox, &mut redis, process);
        redis.end_load();
        assert_eq!(view(server), before);
    });
}

/// A client that counts up, one answer at a time, over one connection for ever.
fn count(stop: &AtomicBool, done: &AtomicU64) {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("time-out");
    let mut answers = BufReader::new(stream.try_clone().expect("dup"));
    let mut last = 0;
    while !stop.load(Ordering::SeqCst) {
        stream.write_all(b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n").expect("the connection stands");
        let mut line = String::new();
        answers.read_line(&mut line).expect("an answer");
        let now: u64 =
            line.trim().trim_start_matches(':').parse().unwrap_or_else(|_| panic!("answer {line:?}"));
        assert!(now > last, "{now} after {last}");
        last = now;
        done.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn real_redis_keeps_its_clients() {
    isolated(|sandbox| {
        let mut server = start_redis(sandbox, &sandbox.dir().join("redis"), false);
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut restored: Option<Restored> = None;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| count(&stop, &done))).collect();
            for _ in 0..5 {
                let from = done.load(Ordering::SeqCst);
                until("the clients count on", || {
                    assert!(clients.iter().all(|client| !client.is_finished()), "a client has ended");
                    (done.load(Ordering::SeqCst) > from + 200).then_some(())
                });
                let saved = sandbox.save_with("redis", &["--stop"]);
                match restored.take() {
                    Some(restored) => restored.wait_gone(),
                    None => drop(server.wait()),
                }
                restored = Some(sandbox.restore(&id(&saved)));
            }
            let from = done.load(Ordering::SeqCst);
            until("the clients count on", || (done.load(Ordering::SeqCst) > from + 200).then_some(()));
            stop.store(true, Ordering::SeqCst);
            clients.into_iter().for_each(|client| client.join().expect("a client"));
        });
        let answer = Command::new("redis-cli").args(["get", "count"]).output().expect("redis-cli");
        let counted: u64 = String::from_utf8_lossy(&answer.stdout).trim().parse().expect("a number");
        assert_eq!(counted, done.load(Ordering::SeqCst), "every count was made once");
    });
}
