//! TCP and UDP sockets, raw, ICMP, packet and netlink sockets.
use ckpt_tests::process::Restored;
use ckpt_tests::sandbox::id;
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

ckpt_tests::survives! {
    fn tcp_that_listens => "tcp_listening";
    fn tcp_connections_within_the_program => "tcp_connections";
    fn udp_unconnected => "udp";
    fn options => "socket_options";
    fn udp_datagrams_that_nobody_has_read => "udp_queues";
    fn multicast_groups => "multicast";
    fn raw_and_icmp_sockets => "raw_sockets";
    fn packet_sockets => "packet_sockets";
    fn packets_in_rings => "packet_rings";
    fn netlink_sockets => "netlink";
}

#[test]
fn a_killed_server_comes_back_on_its_port() {
    isolated(|sandbox| {
        let mut subject = Subject::start_unready(sandbox, "tcp_killed_server", &[]);
        subject.wait_for("port");
        let port = std::fs::read_to_string(subject.dir().join("port")).expect("port");
        let mut client = TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).expect("connect");
        subject.wait_ready();
        sandbox.attach(subject.pid(), "server");
        let saved = sandbox.save("server");
        // The killed server's side of the connection stays behind, waiting for this one to close, too.
        subject.process.kill();
        assert_eq!(client.read(&mut [0; 8]).expect("the end"), 0);
        let restored = sandbox.restore(&saved);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// The clients of `tcp_server`, which is ready.
struct Clients {
    idle: TcpStream,
    full: TcpStream,
    half: TcpStream,
}

fn connect(subject: &mut Subject, host: &str) -> Clients {
    subject.wait_for("port");
    let port: u16 =
        std::fs::read_to_string(subject.dir().join("port")).expect("port").parse().expect("a port");
    let connect = || {
        let stream = TcpStream::connect((host, port)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("time-out");
        stream
    };
    let mut clients = Clients { idle: connect(), full: connect(), half: connect() };
    clients.half.write_all(b"done").expect("write");
    clients.half.shutdown(Shutdown::Write).expect("shutdown");
    subject.wait_ready();
    clients
}

#[test]
fn tcp_clients_outside_keep_their_connections() {
    isolated(|sandbox| {
        for (family, host) in [("v4", "127.0.0.1"), ("v6", "::1")] {
            if TcpListener::bind((host, 0)).is_err() {
                eprintln!("not tested: no {family} here");
                continue;
            }
            let mut subject = Subject::start_unready(sandbox, "tcp_server", &[family]);
            let mut clients = connect(&mut subject, host);
            sandbox.attach(subject.pid(), family);
            let saved = sandbox.save_with(family, &["--stop"]);
            subject.process.wait();
            // What is sent while nobody is there is sent again until somebody is.
            clients.idle.write_all(b"while you were away").expect("write");
            clients.idle.set_nonblocking(true).expect("mode");
            assert_eq!(clients.idle.read(&mut [0; 1]).expect_err("held still").kind(), ErrorKind::WouldBlock);
            clients.idle.set_nonblocking(false).expect("mode");

            let restored = sandbox.restore(&id(&saved));
            subject.go();
            let mut text = [0; 19];
            clients.idle.read_exact(&mut text).expect("an echo");
            assert_eq!(&text, b"while you were away");
            let written: usize = std::fs::read_to_string(subject.dir().join("written"))
                .expect("written")
                .parse()
                .expect("a number");
            let mut all = Vec::new();
            clients.full.read_to_end(&mut all).expect("all that was written");
            assert_eq!(all.len(), written + 3);
            let right = |(at, byte): (usize, &u8)| usize::from(*byte) == at % 251;
            assert!(all[..written].iter().enumerate().all(right), "what was written comes in order");
            let mut last = String::new();
            clients.half.read_to_string(&mut last).expect("the last words");
            assert_eq!(last, "well");
            clients.idle.shutdown(Shutdown::Both).expect("shutdown");
            subject.must_be_well("restored");
            restored.wait_gone();
        }
    });
}

#[test]
fn tcp_clients_of_a_killed_server_are_told_that_it_is_gone() {
    isolated(|sandbox| {
        let mut subject = Subject::start_unready(sandbox, "tcp_server", &["v4"]);
        let mut clients = connect(&mut subject, "127.0.0.1");
        sandbox.attach(subject.pid(), "server");
        let told = sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        assert!(told.contains("127.0.0.1:") && told.contains("--tcp"), "{told}");
        sandbox.ckpt(["save", "server", "--tcp", "refuse"]).refused(1, &["127.0.0.1:", "--tcp"]);
        let saved = sandbox.save("server");
        clients.idle.write_all(b"echo").expect("write");
        subject.process.kill();
        let ended = clients.idle.read(&mut [0; 1]);
        assert!(matches!(ended, Ok(0)) || ended.is_err());
        let restored = sandbox.restore(&saved);
        // The program finds the connections closed, too.
        subject.go();
        restored.wait_gone();
    });
}

/// A server with one client, saved with `--stop`: the client, and the checkpoint.
fn held_still(sandbox: &Sandbox) -> (Subject, TcpStream, String) {
    let mut subject = Subject::start_unready(sandbox, "tcp_policy", &[]);
    subject.wait_for("port");
    let port = std::fs::read_to_string(subject.dir().join("port")).expect("port");
    let mut client = TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).expect("connect");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("time-out");
    client.write_all(b"abc").expect("write");
    subject.wait_ready();
    sandbox.attach(subject.pid(), "server");
    let saved = id(&sandbox.save_with("server", &["--stop"]));
    subject.process.wait();
    (subject, client, saved)
}

/// Whether the connection of a client is no more.
fn has_ended(client: &mut TcpStream) -> bool {
    // Sent again until somebody says that there is no such connection.
    let _ = client.write_all(b"more");
    match client.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

#[test]
fn what_becomes_of_a_connection_is_the_users_choice() {
    isolated(|sandbox| {
        for (policy, found) in
            [("keep", "data"), ("force", "data"), ("close", "end"), ("reset", "ECONNRESET")]
        {
            let (subject, mut client, saved) = held_still(sandbox);
            if found == "data" {
                client.write_all(b"more").expect("write");
            }
            let stdout = sandbox.ckpt(["restore", &saved, "--detach", "--tcp", policy]).done();
            let restored = Restored::new(stdout.parse().expect("a pid"));
            subject.must_be_well("restored");
            let told = std::fs::read_to_string(subject.dir().join("found")).expect("what it found");
            assert_eq!(told, found, "--tcp {policy}");
            if found == "data" {
                let mut echo = [0; 4];
                client.read_exact(&mut echo).expect("an echo");
                assert_eq!(&echo, b"more");
            } else {
                assert!(has_ended(&mut client), "--tcp {policy}: the client's connection goes on");
            }
            restored.wait_gone();
        }
    });
}

#[test]
fn connections_are_given_up_with_their_checkpoint() {
    isolated(|sandbox| {
        let (_first, mut first, older) = held_still(sandbox);
        let (_second, mut second, newer) = held_still(sandbox);
        assert_eq!(sandbox.ckpt(["prune", "server", "--keep", "1"]).done(), older);
        assert!(has_ended(&mut first), "the connection of a pruned checkpoint is held");
        sandbox.ckpt(["rm", &newer]).done();
        assert!(has_ended(&mut second), "the connection of a removed checkpoint is held");
    });
}
