//! UNIX sockets.
use ckpt_tests::isolated;
use ckpt_tests::sandbox::id;
use ckpt_tests::subject::Subject;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

ckpt_tests::survives! {
    fn connected_with_queued_messages => "unix_sockets";
    fn listening_and_bound => "unix_listening";
    fn descriptors_under_way => "scm_rights";
    fn several_messages_in_each => "peek_offset";
}

/// Connects a subject to a server of ours, which greets it.
fn greet(listener: &UnixListener, subject: &mut Subject) -> UnixStream {
    let (mut server, _) = listener.accept().expect("the subject's connection");
    server.write_all(b"hello").expect("a greeting");
    subject.wait_ready();
    server
}

#[test]
fn a_peer_outside_is_refused_by_name() {
    isolated(|sandbox| {
        let path = sandbox.dir().join("server");
        let path = path.to_str().expect("a path");
        let listener = UnixListener::bind(path).expect("a listener");
        let mut subject = Subject::start_unready(sandbox, "unix_outside", &["stream", path]);
        let _server = greet(&listener, &mut subject);
        sandbox.attach(subject.pid(), "client");
        sandbox.ckpt(["save", "client"]).refused(1, &["fd 3", path, "--unix-peer"]);
        sandbox.ckpt(["check", &subject.pid().to_string()]).refused(1, &["fd 3", path]);
    });
}

#[test]
fn a_peer_outside_has_gone_when_the_program_comes_back() {
    isolated(|sandbox| {
        let path = sandbox.dir().join("server");
        let path = path.to_str().expect("a path");
        let listener = UnixListener::bind(path).expect("a listener");
        let mut subject = Subject::start_unready(sandbox, "unix_outside", &["stream", path]);
        let mut server = greet(&listener, &mut subject);
        server.write_all(b"unread").expect("more");
        sandbox.attach(subject.pid(), "client");
        let saved = id(&sandbox.save_with("client", &["--unix-peer", "eof"]));
        // The program that was saved has its connection.
        assert!(subject.verdict().is_none());
        subject.process.kill();
        assert_eq!(server.read(&mut [0; 8]).unwrap_or(0), 0);
        let restored = sandbox.restore(&saved);
        subject.verdict_must_be("had unread end");
        restored.wait_gone();
    });
}

#[test]
fn a_peer_outside_is_connected_anew() {
    isolated(|sandbox| {
        let path = sandbox.dir().join("server");
        let path = path.to_str().expect("a path");
        let listener = UnixListener::bind(path).expect("a listener");
        let mut subject = Subject::start_unready(sandbox, "unix_outside", &["stream", path]);
        let mut server = greet(&listener, &mut subject);
        server.write_all(b"dropped").expect("more");
        sandbox.attach(subject.pid(), "client");
        let saved = id(&sandbox.save_with("client", &["--unix-peer", "reconnect"]));
        subject.process.kill();
        drop(server);
        subject.tell("again");
        let restored = sandbox.restore(&saved);
        let (mut server, _) = listener.accept().expect("the new connection");
        server.write_all(b"again").expect("a greeting");
        let mut thanks = [0; 6];
        subject.go();
        server.read_exact(&mut thanks).expect("thanks");
        assert_eq!(&thanks, b"thanks");
        server.write_all(b"bye").expect("an end");
        subject.verdict_must_be("again againbye");
        restored.wait_gone();

        // Nobody listens any more.
        drop(listener);
        std::fs::remove_file(path).expect("the name goes");
        sandbox.ckpt(["restore", &saved]).refused(1, &[path]);
    });
}
