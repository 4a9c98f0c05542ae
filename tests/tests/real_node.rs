//! node: a timer and an HTTP server.
use ckpt_tests::isolated;
use ckpt_tests::real::{Program, start, survive_rounds};
use ckpt_tests::wait::until;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

const PORT: u16 = 8080;

struct Node {
    /// Requests that were answered; each added its own number.
    requests: u64,
    /// The timer's last count.
    ticks: u64,
}

impl Node {
    /// One request on a connection of its own, as a client that keeps trying while the server is away.
    fn request(path: &str) -> Value {
        until("node answers", || {
            let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            serde_json::from_str(answer.split_once("\r\n\r\n")?.1.trim()).ok()
        })
    }

    /// Asserts that the answer is one of a server that has had these requests, and returns how many.
    fn check(&mut self, answer: &Value) -> u64 {
        let number = |field: &str| answer[field].as_u64().unwrap_or_else(|| panic!("{field}: {answer}"));
        let requests = number("requests");
        assert_eq!(number("sum"), requests * (requests + 1) / 2, "{answer}");
        assert_eq!((number("entries"), number("right")), (requests, requests), "{answer}");
        self.ticks = number("ticks");
        requests
    }
}

impl Program for Node {
    fn job(&self) -> &'static str {
        "node"
    }

    fn work(&mut self) {
        let answer = Node::request("/");
        self.requests = self.check(&answer);
        for _ in 0..20 {
            self.requests += 1;
            let answer = Node::request(&format!("/add/{}", self.requests));
            assert_eq!(self.check(&answer), self.requests);
        }
        let ticks = self.ticks;
        until("the timer ticks on", || {
            self.check(&Node::request("/"));
            (self.ticks > ticks).then_some(())
        });
    }

    fn state(&mut self) -> u64 {
        let answer = Node::request("/");
        self.check(&answer)
    }

    fn most(&mut self) -> u64 {
        self.requests
    }

    fn first_state(&mut self) -> u64 {
        let ticks = self.ticks;
        let state = self.state();
        assert!(self.ticks > 0 && ticks > 0, "the timer began anew");
        state
    }
}

#[test]
fn real_node_with_timer_and_http_server() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("node");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/server.js");
        let mut command = Command::new("node");
        let process = start(sandbox, &dir, "node", command.args([script, &PORT.to_string()]), false);
        Node::request("/");
        sandbox.attach(process.pid(), "node");
        survive_rounds(sandbox, &mut Node { requests: 0, ticks: 0 }, process);
    });
}
