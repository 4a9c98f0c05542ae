//! UNIX sockets.
use ckpt_tests::sandbox::id;
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

ckpt_tests::survives! {
    fn connected_with_queued_messages => "unix_sockets";
    fn listening_and_bound => "unix_listening";
    fn names_that_lead_elsewhere_or_nowhere => "unix_names";
    fn descriptors_under_way => "scm_rights";
    fn several_messages_in_each => "peek_offset";
}

/// A subject that is the job `client`, and its server, which is ours.
struct Outside {
    path: String,
    listener: UnixListener,
    subject: Subject,
    server: UnixStream,
}

fn outside(sandbox: &Sandbox) -> Outside {
    let path = sandbox.dir().join("server").to_str().expect("a path").to_owned();
    let listener = UnixListener::bind(&path).expect("a listener");
    let mut subject = Subject::start_unready(sandbox, "unix_outside", &["stream", &path]);
    let server = greet(&listener, &mut subject);
    sandbox.attach(subject.pid(), "client");
    Outside { path, listener, subject, server }
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
        let Outside { path, subject, .. } = &outside(sandbox);
        sandbox.ckpt(["save", "client"]).refused(1, &["fd 3", path, "--unix-peer"]);
        sandbox.ckpt(["check", &subject.pid().to_string()]).refused(1, &["fd 3", path, "--unix-peer"]);
    });
}

#[test]
fn a_peer_outside_has_gone_when_the_program_comes_back() {
    isolated(|sandbox| {
        let Outside { mut subject, mut server, listener: _listener, .. } = outside(sandbox);
        server.write_all(b"unread").expect("more");
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
        let Outside { path, listener, mut subject, mut server } = outside(sandbox);
        server.write_all(b"dropped").expect("more");
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
        std::fs::remove_file(&path).expect("the name goes");
        sandbox.ckpt(["restore", &saved]).refused(1, &[&path]);
    });
}
