//! HTTP servers that add numbers up for their clients, whatever they are written in, and clients that check every answer.
//!
//! `GET /add/CLIENT/N` adds N to the client's sum if it is the next number, `GET /get/CLIENT` does not; both answer `COUNT SUM`: how
//! many numbers the client has added, and their sum. A client adds 1, 2, 3…, so that no other sum is right, and a request that had
//! arrived at the checkpoint and is made again by the client counts once. `GET /check` has every thread (or
//! task) of the server do something, and answers `THREADS TICKS`: how many did, and a count that a timer moves on.
use crate::Sandbox;
use crate::process::{Process, Restored};
use crate::sandbox::id;
use crate::wait::until;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Clients that a server has at the same time.
const CLIENTS: usize = 8;

/// A server under test: its port, and how many threads must answer a check.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The job's name.
    pub job: &'static str,
    /// The port that it listens on.
    pub port: u16,
    /// How many threads (or tasks) it has to answer for.
    pub threads: u64,
}

/// One connection that is kept for one request after the other.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(120))).ok()?;
        Some(Connection(BufReader::new(stream)))
    }

    /// The two numbers of an answer; None when the connection has ended.
    fn get(&mut self, path: &str) -> Option<(u64, u64)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
        assert!(line.starts_with("HTTP/1.1 200 "), "{path}: {line}");
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(text) = header.strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).expect("text");
        let (first, second) = body.trim().split_once(' ').unwrap_or_else(|| panic!("{path}: {body:?}"));
        Some((first.parse().expect("a number"), second.parse().expect("a number")))
    }
}

/// What the clients have done between them.
#[derive(Default)]
struct Clients {
    stop: AtomicBool,
    /// How many numbers each has had acknowledged.
    counts: [AtomicU64; CLIENTS],
}

impl Clients {
    fn counts(&self) -> [u64; CLIENTS] {
        std::array::from_fn(|client| self.counts[client].load(Ordering::SeqCst))
    }
}

/// Ends the clients when the test has, one way or the other.
struct Stop<'a>(&'a Clients);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

impl Server {
    /// Waits until the server answers, and says how many threads did and how far its timer is.
    fn check(&self) -> u64 {
        let (threads, ticks) = until("the server answers", || Connection::open(self.port)?.get("/check"));
        assert_eq!(threads, self.threads, "threads that answer");
        ticks
    }

    /// A client at work until it is told to stop. With `keep`, its connection must never end.
    fn work(&self, client: usize, clients: &Clients, keep: bool) {
        let connect = || until("the server listens", || Connection::open(self.port));
        let mut connection = connect();
        let mut count = 0;
        while !clients.stop.load(Ordering::SeqCst) {
            let next = count + 1;
            if let Some((told, sum)) = connection.get(&format!("/add/{client}/{next}")) {
                assert_eq!((told, sum), (next, next * (next + 1) / 2), "client {client}");
                count = next;
            } else {
                assert!(!keep, "client {client}: its connection has ended");
                // The server is an earlier one now.
                (connection, count) = until("the server answers", || {
                    let mut connection = connect();
                    let (told, sum) = connection.get(&format!("/get/{client}"))?;
                    assert!(told <= next, "client {client}: {told} after {count}");
                    assert_eq!(sum, told * (told + 1) / 2, "client {client} after {told}");
                    Some((connection, told))
                });
            }
            clients.counts[client].store(count, Ordering::SeqCst);
        }
    }

    /// Saves, kills and restores the server `rounds` times while clients keep it at work. With `--stop` among the arguments of
    /// the save nothing may be lost and no connection may end; without it every client finds what it had at the checkpoint.
    ///
    /// # Panics
    /// When anything of it does not hold.
    pub fn serve_through(&self, sandbox: &Sandbox, mut process: Process, rounds: u32, save: &[&str]) {
        let keep = save.contains(&"--stop");
        let clients = Clients::default();
        let mut ticks = self.check();
        sandbox.attach(process.pid(), self.job);
        let mut restored: Option<Restored> = None;
        std::thread::scope(|scope| {
            let _stop = Stop(&clients);
            let all: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let clients = &clients;
                    scope.spawn(move || self.work(client, clients, keep))
                })
                .collect();
            let go_on = || {
                let from = clients.counts();
                until("all clients go on", || {
                    assert!(!all.iter().any(|client| client.is_finished()), "a client has ended");
                    let now = clients.counts();
                    // One that was thrown back has another beginning.
                    now.iter().zip(from).all(|(now, from)| *now != from).then_some(())
                });
            };
            for _ in 0..rounds {
                go_on();
                let before = clients.counts();
                let saved = sandbox.save_with(self.job, save);
                if !keep {
                    go_on();
                }
                match restored.take() {
                    Some(restored) if keep => restored.wait_gone(),
                    Some(restored) => restored.kill(),
                    None if keep => drop(process.wait()),
                    None => process.kill(),
                }
                let now = sandbox.restore(&id(&saved));
                // The first answer of a check comes from the restored server.
                ticks = until("the timer goes on", || Some(self.check()).filter(|now| *now > ticks));
                restored = Some(now);
                go_on();
                let after = clients.counts();
                assert!(
                    after.iter().zip(before).all(|(now, then)| *now >= then),
                    "{before:?} became {after:?}"
                );
            }
        });
    }
}
