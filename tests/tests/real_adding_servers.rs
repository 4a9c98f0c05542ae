//! HTTP servers of three languages, with many threads or tasks: java, Go, and Rust on tokio.
use ckpt_tests::adding::Server;
use ckpt_tests::ckpt::Ran;
use ckpt_tests::process::Process;
use ckpt_tests::real::{rounds, start};
use ckpt_tests::{Sandbox, isolated, target_dir};
use std::path::PathBuf;
use std::process::Command;

const JAVA: Server = Server { job: "java", port: 8082, threads: 200 };
const GO: Server = Server { job: "go", port: 8083, threads: 100 };
const TOKIO: Server = Server { job: "tokio", port: 8084, threads: 100 };

fn source(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/programs")).join(name)
}

fn start_java(sandbox: &Sandbox) -> Process {
    let dir = sandbox.dir().join("java");
    Ran::of(Command::new("javac").arg("-d").arg(&dir).arg(source("AddingServer.java"))).done();
    let mut command = Command::new("java");
    start(sandbox, &dir, JAVA.job, command.args(["AddingServer", &JAVA.port.to_string()]), false)
}

fn start_go(sandbox: &Sandbox) -> Process {
    let dir = sandbox.dir().join("go");
    let program = dir.join("adding_server");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(source("adding_server.go"));
    // A compiler's cache of its own for all tests; the network is not asked.
    build.env("GOCACHE", target_dir().join("go")).env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off");
    Ran::of(&mut build).done();
    start(sandbox, &dir, GO.job, Command::new(&program).arg(GO.port.to_string()), false)
}

fn start_tokio(sandbox: &Sandbox) -> Process {
    let dir = sandbox.dir().join("tokio");
    let mut command = Command::new(target_dir().join("adding-server"));
    start(sandbox, &dir, TOKIO.job, command.arg(TOKIO.port.to_string()), false)
}

#[test]
fn real_java_http_server_keeps_its_clients() {
    isolated(|sandbox| JAVA.serve_through(sandbox, start_java(sandbox), rounds(), &["--stop"]));
}

#[test]
fn real_java_http_server_killed_under_load() {
    isolated(|sandbox| JAVA.serve_through(sandbox, start_java(sandbox), rounds(), &[]));
}

#[test]
fn real_go_http_server_keeps_its_clients() {
    isolated(|sandbox| GO.serve_through(sandbox, start_go(sandbox), rounds(), &["--stop"]));
}

#[test]
fn real_go_http_server_killed_under_load() {
    isolated(|sandbox| GO.serve_through(sandbox, start_go(sandbox), rounds(), &[]));
}

#[test]
fn real_tokio_http_server_keeps_its_clients() {
    isolated(|sandbox| TOKIO.serve_through(sandbox, start_tokio(sandbox), rounds(), &["--stop"]));
}

#[test]
fn real_tokio_http_server_killed_under_load() {
    isolated(|sandbox| TOKIO.serve_through(sandbox, start_tokio(sandbox), rounds(), &[]));
}
