//! nginx: a master and two workers that serve files to clients that check every byte.
use ckpt_tests::process::{Process, Restored};
use ckpt_tests::real::{rounds, start};
use ckpt_tests::sandbox::id;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PORT: u16 = 8081;
/// Sizes of the files, from one that fits a packet to one that fills the socket's buffers.
const SIZES: [usize; 4] = [100, 10_000, 300_000, 3_000_000];
const CLIENTS: u64 = 6;

/// What the file of a size holds.
fn contents(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from((i / 7 + i * 31 + size) % 251).expect("less than 251")).collect()
}

fn start_nginx(sandbox: &Sandbox) -> Process {
    let dir = sandbox.dir().join("nginx");
    let files = dir.join("files");
    std::fs::create_dir_all(&files).expect("directory");
    for size in SIZES {
        std::fs::write(files.join(size.to_string()), contents(size)).expect("file");
    }
    let config = format!(
        "daemon off; master_process on; worker_processes 2; pid {dir}/pid; error_log {dir}/log info;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; keepalive_requests 1000000000; keepalive_timeout 600s;\n\
         server {{ listen 127.0.0.1:{PORT}; root {dir}/files; }} }}\n",
        dir = dir.display(),
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).expect("configuration");
    let mut command = Command::new("nginx");
    let process = start(sandbox, &dir, "nginx", command.arg("-p").arg(&dir).arg("-c").arg(&file), false);
    until("nginx listens", || TcpStream::connect(("127.0.0.1", PORT)).is_ok().then_some(()));
    sandbox.attach(process.pid(), "nginx");
    process
}

/// One request on a connection that stays open: None when the connection ended.
fn request(connection: &mut BufReader<TcpStream>, size: usize, wanted: &[u8]) -> Option<()> {
    write!(connection.get_mut(), "GET /{size} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut line = String::new();
    connection.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    let mut length = None;
    loop {
        line.clear();
        connection.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        length = line.strip_prefix("Content-Length: ").map(|text| text.trim().to_owned()).or(length);
    }
    assert_eq!(length, Some(size.to_string()));
    let mut body = vec![0; size];
    connection.read_exact(&mut body).ok()?;
    assert!(body == wanted, "file {size} has other contents");
    Some(())
}

fn connect() -> BufReader<TcpStream> {
    let stream = until("nginx listens", || TcpStream::connect(("127.0.0.1", PORT)).ok());
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("time-out");
    BufReader::new(stream)
}

/// A client that asks for file after file and counts the right answers. With `keep`, its connection must never end.
fn ask(stop: &AtomicBool, done: &AtomicU64, keep: bool) {
    let files: Vec<_> = SIZES.iter().map(|size| (*size, contents(*size))).collect();
    let mut connection = connect();
    for (size, wanted) in files.iter().cycle() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        while request(&mut connection, *size, wanted).is_none() {
            assert!(!keep, "a connection has ended");
            if stop.load(Ordering::SeqCst) {
                return;
            }
            connection = connect();
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
}

/// The workers of a master.
fn workers(master: i32) -> String {
    std::fs::read_to_string(Path::new(&format!("/proc/{master}/task/{master}/children"))).unwrap_or_default()
}

fn serves_on(sandbox: &Sandbox, save: &[&str]) {
    let keep = save.contains(&"--stop");
    let mut server = start_nginx(sandbox);
    let had = until("two workers", || {
        let workers = workers(server.pid());
        (workers.split_whitespace().count() == 2).then_some(workers)
    });
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut restored: Option<Restored> = None;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask(&stop, &done, keep))).collect();
        let go_on = || {
            let from = done.load(Ordering::SeqCst);
            until("the clients are served", || {
                assert!(!clients.iter().any(|client| client.is_finished()), "a client has ended");
                (done.load(Ordering::SeqCst) > from + 100).then_some(())
            });
        };
        for _ in 0..rounds() {
            go_on();
            let saved = sandbox.save_with("nginx", save);
            if !keep {
                go_on();
            }
            match restored.take() {
                Some(restored) if keep => restored.wait_gone(),
                Some(restored) => restored.kill(),
                None if keep => drop(server.wait()),
                None => server.kill(),
            }
            let now = sandbox.restore(&id(&saved));
            assert_eq!(workers(now.pid()), had, "the workers");
            restored = Some(now);
        }
        go_on();
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn real_nginx_keeps_its_clients() {
    isolated(|sandbox| serves_on(sandbox, &["--stop"]));
}

#[test]
fn real_nginx_killed_under_load() {
    isolated(|sandbox| serves_on(sandbox, &[]));
}
