//! node: a cluster of two workers, to which the primary hands its connections.
use ckpt_tests::isolated;
use ckpt_tests::real::{Program, start, survive_rounds};
use ckpt_tests::wait::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

const PORT: u16 = 8082;

/// One request on a connection of its own.
fn request(path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1.trim()).ok()
}

struct Cluster {
    /// What each worker has counted.
    requests: BTreeMap<u64, u64>,
}

impl Cluster {
    fn ask(path: &str) -> (u64, u64) {
        let answer = until("node answers", || request(path));
        let number = |field: &str| answer[field].as_u64().unwrap_or_else(|| panic!("{field}: {answer}"));
        let requests = number("requests");
        assert_eq!(number("sum"), requests * (requests + 1) / 2, "{answer}");
        (number("worker"), requests)
    }

    fn workers(&self) -> Vec<u64> {
        self.requests.keys().copied().collect()
    }
}

impl Program for Cluster {
    fn job(&self) -> &'static str {
        "cluster"
    }

    fn work(&mut self) {
        let mut asked = BTreeMap::new();
        until("both workers are asked", || {
            let (worker, requests) = Cluster::ask("/add");
            let before = self.requests.insert(worker, requests);
            assert_eq!(Some(requests - 1), before.or(Some(0)), "worker {worker}");
            *asked.entry(worker).or_insert(0) += 1;
            (asked.len() == 2 && asked.values().all(|count| *count >= 5)).then_some(())
        });
    }

    fn state(&mut self) -> u64 {
        self.requests.values().sum()
    }

    fn first_state(&mut self) -> u64 {
        let had = self.workers();
        self.requests.clear();
        until("both workers answer", || {
            let (worker, requests) = Cluster::ask("/");
            self.requests.insert(worker, requests);
            (self.requests.len() == 2).then_some(())
        });
        assert_eq!(self.workers(), had, "the workers' pids");
        self.state()
    }
}

#[test]
fn real_node_cluster_with_two_workers() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("cluster");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/cluster.js");
        let mut command = Command::new("node");
        let process = start(sandbox, &dir, "cluster", command.args([script, &PORT.to_string()]), false);
        let mut cluster = Cluster { requests: BTreeMap::new() };
        cluster.work();
        sandbox.attach(process.pid(), "cluster");
        survive_rounds(sandbox, &mut cluster, process);
    });
}
