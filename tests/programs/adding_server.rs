//! An HTTP server on tokio, with 100 tasks, that adds numbers up: adding-server PORT.
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const WORKERS: u64 = 100;

/// A question to a task: whether it has been asked this often.
type Question = (u64, oneshot::Sender<bool>);

struct Server {
    sums: Mutex<HashMap<String, (u64, u64)>>,
    ticks: AtomicU64,
    workers: Vec<mpsc::Sender<Question>>,
    checks: tokio::sync::Mutex<u64>,
}

impl Server {
    fn add(&self, client: String, n: u64) -> String {
        let mut sums = self.sums.lock().expect("no thread has panicked");
        let sum = sums.entry(client).or_default();
        if n == sum.0 + 1 {
            *sum = (sum.0 + 1, sum.1 + n);
        }
        format!("{} {}", sum.0, sum.1)
    }

    async fn check(&self) -> String {
        let mut checks = self.checks.lock().await;
        *checks += 1;
        let mut right = 0;
        for worker in &self.workers {
            let (sender, answer) = oneshot::channel();
            worker.send((*checks, sender)).await.expect("the task lives");
            right += u64::from(answer.await.expect("an answer"));
        }
        format!("{right} {}", self.ticks.load(Ordering::SeqCst))
    }
}

fn worker() -> mpsc::Sender<Question> {
    let (sender, mut questions) = mpsc::channel::<Question>(1);
    tokio::spawn(async move {
        let mut times = 0;
        while let Some((wanted, answer)) = questions.recv().await {
            times += 1;
            tokio::time::sleep(Duration::from_micros(100)).await;
            let _ = answer.send(times == wanted);
        }
    });
    sender
}

#[tokio::main(worker_threads = 4)]
async fn main() {
    let port = std::env::args().nth(1).and_then(|text| text.parse::<u16>().ok()).expect("adding-server PORT");
    let server = Arc::new(Server {
        sums: Mutex::default(),
        ticks: AtomicU64::new(0),
        workers: (0..WORKERS).map(|_| worker()).collect(),
        checks: tokio::sync::Mutex::new(0),
    });
    let ticking = server.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(Duration::from_millis(3));
        loop {
            timer.tick().await;
            ticking.ticks.fetch_add(1, Ordering::SeqCst);
        }
    });
    let add = async |State(server): State<Arc<Server>>, Path((client, n)): Path<(String, u64)>| {
        server.add(client, n)
    };
    let sum = async |State(server): State<Arc<Server>>, Path(client): Path<String>| server.add(client, 0);
    let check = async |State(server): State<Arc<Server>>| server.check().await;
    let routes = Router::new()
        .route("/add/{client}/{n}", get(add))
        .route("/get/{client}", get(sum))
        .route("/check", get(check))
        .with_state(server);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    axum::serve(listener, routes).await.expect("serves for ever");
}
