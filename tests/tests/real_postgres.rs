//! PostgreSQL under pgbench, whose connections stay open while the server and its processes are saved with `--stop` and restored.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::process::{Process, Restored};
use ckpt_tests::sandbox::id;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use nix::unistd::User;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PORT: &str = "5499";
const CLIENTS: u64 = 4;
const TRANSACTIONS: u64 = 4000;

/// Where Debian has the programs of the newest version that is installed.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("postgresql is not installed: run ci/setup");
    let newest = versions.flatten().map(|entry| entry.path()).max().expect("a version");
    newest.join("bin").join(name)
}

fn user() -> User {
    User::from_name("postgres").expect("users").expect("the package's user")
}

/// A program of PostgreSQL's as its own user.
fn command(name: &str) -> Command {
    let user = user();
    let mut command = Command::new(program(name));
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    command
}

fn client(name: &str) -> Command {
    let mut command = command(name);
    command.args(["-h", "127.0.0.1", "-p", PORT, "-U", "postgres"]);
    command
}

/// The one number that a query gives; None: the server does not answer.
fn query(sql: &str) -> Option<u64> {
    let answer = client("psql").args(["-tAc", sql, "postgres"]).output().expect("psql");
    String::from_utf8_lossy(&answer.stdout).trim().parse().ok().filter(|_| answer.status.success())
}

fn start_server(sandbox: &Sandbox, data: &Path) -> Process {
    let user = user();
    fs::create_dir(data).expect("a directory");
    chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
    for parent in data.ancestors().skip(1).take_while(|parent| parent.starts_with(sandbox.dir())) {
        fs::set_permissions(parent, Permissions::from_mode(0o755)).expect("chmod");
    }
    Ran::of(command("initdb").arg("-D").arg(data).args(["-A", "trust", "-U", "postgres"])).done();
    let log = File::create(sandbox.dir().join("postgres.log")).expect("log");
    let mut server = command("postgres");
    server.arg("-D").arg(data).args(["-p", PORT, "-k", "", "-c", "listen_addresses=127.0.0.1"]);
    server.stdout(log.try_clone().expect("dup")).stderr(log);
    let server = Process::start(&mut server);
    until("the server answers", || query("select 1"));
    server
}

#[test]
fn real_postgres_keeps_the_connections_of_pgbench() {
    isolated(|sandbox| {
        let data = sandbox.dir().join("data");
        let mut server = start_server(sandbox, &data);
        Ran::of(client("pgbench").args(["-q", "-i", "-s", "2", "postgres"])).done();
        sandbox.attach(server.pid(), "postgres");

        let report = sandbox.dir().join("pgbench.log");
        let log = File::create(&report).expect("log");
        let mut load = client("pgbench");
        load.args(["-c", &CLIENTS.to_string(), "-j", "2", "-t", &TRANSACTIONS.to_string(), "postgres"]);
        load.stdout(log.try_clone().expect("dup")).stderr(log);
        let mut load = Process::start(&mut load);
        let mut restored: Option<Restored> = None;
        for round in 1..=4 {
            until("pgbench goes on", || {
                assert!(load.ended().is_none(), "{}", fs::read_to_string(&report).unwrap_or_default());
                query("select count(*) from pgbench_history").filter(|done| *done >= round * 300)
            });
            let saved = sandbox.save_with("postgres", &["--stop"]);
            match restored.take() {
                Some(restored) => restored.wait_gone(),
                None => drop(server.wait()),
            }
            restored = Some(sandbox.restore(&id(&saved)));
        }
        let status = load.wait();
        let report = fs::read_to_string(&report).expect("report");
        assert!(status.success() && report.contains("failed transactions: 0"), "{status}: {report}");
        // All that was committed is there, once, and adds up.
        assert_eq!(query("select count(*) from pgbench_history"), Some(CLIENTS * TRANSACTIONS));
        let sums = "select count(*) from (select sum(abalance) s from pgbench_accounts union \
                    select sum(bbalance) from pgbench_branches union select sum(tbalance) from pgbench_tellers union \
                    select sum(delta) from pgbench_history) sums";
        assert_eq!(query(sums), Some(1), "all balances have the same sum");
        Ran::of(client("pg_amcheck").args(["--install-missing", "--heapallindexed", "postgres"])).done();
    });
}
