//! memcached, with clients that connect again when it was away.
use ckpt_tests::isolated;
use ckpt_tests::real::{Program, start, survive_rounds};
use ckpt_tests::wait::until;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PORT: u16 = 11211;
const KEYS: u64 = 2000;
/// Keys that are read with one command.
const AT_ONCE: u64 = 50;

type Connection = BufReader<TcpStream>;

fn connect() -> Connection {
    let stream = until("memcached listens", || TcpStream::connect(("127.0.0.1", PORT)).ok());
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("time-out");
    BufReader::new(stream)
}

/// One line of an answer; None when the connection has ended.
fn line(connection: &mut Connection) -> Option<String> {
    let mut line = String::new();
    connection.read_line(&mut line).ok().filter(|_| line.ends_with("\r\n"))?;
    line.truncate(line.len() - 2);
    Some(line)
}

fn say(connection: &mut Connection, words: &str) -> Option<()> {
    connection.get_mut().write_all(words.as_bytes()).ok()
}

/// What a key holds after write `n`: as many bytes as make the slabs differ.
fn value(n: u64) -> String {
    format!("{n} {}", "x".repeat(usize::try_from(n * 37 % 3000).expect("a length")))
}

/// Write number `n` sets key `n % KEYS`.
fn set(connection: &mut Connection, n: u64) -> Option<()> {
    let value = value(n);
    say(connection, &format!("set key:{} {} 0 {}\r\n{value}\r\n", n % KEYS, n % 1000, value.len()))?;
    assert_eq!(line(connection)?, "STORED");
    Some(())
}

/// Adds up the numbers of some keys' last writes: `(key, write)`.
fn get(connection: &mut Connection, keys: std::ops::Range<u64>) -> Option<Vec<(u64, u64)>> {
    let names: Vec<String> = keys.map(|key| format!("key:{key}")).collect();
    say(connection, &format!("get {}\r\n", names.join(" ")))?;
    let mut found = Vec::new();
    loop {
        let head = line(connection)?;
        if head == "END" {
            return Some(found);
        }
        let words: Vec<&str> = head.split(' ').collect();
        let ["VALUE", name, flags, _] = words[..] else { panic!("answer {head:?}") };
        let key = name.trim_start_matches("key:").parse().expect("a key");
        let body = line(connection)?;
        let n: u64 = body.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        assert_eq!((body, flags), (value(n), (n % 1000).to_string().as_str()), "{name}");
        found.push((key, n));
    }
}

struct Memcached {
    connection: Option<Connection>,
    written: u64,
}

impl Memcached {
    /// Does what is safe to do twice, on a new connection when the last one has ended.
    fn again<T>(&mut self, mut what: impl FnMut(&mut Connection) -> Option<T>) -> T {
        until("memcached answers", || {
            let mut connection = self.connection.take().unwrap_or_else(connect);
            let done = what(&mut connection)?;
            self.connection = Some(connection);
            Some(done)
        })
    }

    fn write(&mut self, count: u64) {
        for _ in 0..count {
            let n = self.written + 1;
            self.again(|connection| set(connection, n));
            self.written = n;
        }
    }
}

impl Program for Memcached {
    fn job(&self) -> &'static str {
        "memcached"
    }

    fn work(&mut self) {
        self.write(500);
    }

    fn state(&mut self) -> u64 {
        self.written
    }

    fn first_state(&mut self) -> u64 {
        let mut found = Vec::new();
        for from in (0..KEYS).step_by(usize::try_from(AT_ONCE).expect("small")) {
            found.extend(self.again(|connection| get(connection, from..from + AT_ONCE)));
        }
        let last = found.iter().map(|(_, n)| *n).max().unwrap_or(0);
        let wanted: Vec<_> = (0..KEYS).map(|key| (key, last - (last - key) % KEYS)).collect();
        assert!(found == wanted, "other keys than after write {last}: {found:?}");
        self.written = last;
        last
    }
}

/// Another client that counts up as long as the server is there, and connects again when it was not.
fn count(stop: &AtomicBool, done: &AtomicU64) {
    while !stop.load(Ordering::SeqCst) {
        let (mut connection, mut last) = (connect(), None);
        while !stop.load(Ordering::SeqCst) {
            let Some(answer) = say(&mut connection, "incr count 1\r\n").and_then(|()| line(&mut connection))
            else {
                break;
            };
            let now: u64 = answer.parse().unwrap_or_else(|_| panic!("answer {answer:?}"));
            // What its connection before had sent when the server was saved may be done now.
            assert!(last.is_none_or(|last| now > last), "{now} after {last:?}");
            last = Some(now);
            done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Stops the other client, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn real_memcached_with_clients() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("memcached");
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-l", "127.0.0.1", "-p", &PORT.to_string(), "-m", "64", "-t", "4"]);
        let process = start(sandbox, &dir, "memcached", &mut command, false);
        let mut memcached = Memcached { connection: None, written: 0 };
        memcached.write(KEYS);
        memcached.again(|connection| {
            say(connection, "set count 0 0 1\r\n0\r\n")?;
            line(connection)
        });
        sandbox.attach(process.pid(), "memcached");
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let stopping = Stop(&stop);
            let client = scope.spawn(|| count(&stop, &done));
            let restored = survive_rounds(sandbox, &mut memcached, process);
            let from = done.load(Ordering::SeqCst);
            until("the other client counts on", || {
                assert!(!client.is_finished(), "the other client has ended");
                (done.load(Ordering::SeqCst) > from).then_some(())
            });
            drop(stopping);
            client.join().expect("the other client");
            restored.kill();
        });
    });
}
