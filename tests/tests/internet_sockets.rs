//! TCP and UDP sockets without a connection.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;
use std::io::Read;
use std::net::TcpStream;

ckpt_tests::survives! {
    fn tcp_that_listens => "tcp_listening";
    fn tcp_connections_come_back_closed => "tcp_lost";
    fn udp_unconnected => "udp";
    fn udp_datagrams_that_nobody_has_read => "udp_queues";
    fn multicast_groups => "multicast";
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
