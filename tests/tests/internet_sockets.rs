//! TCP and UDP sockets without a connection.
use ckpt_tests::capability::survives;

#[test]
fn tcp_that_listens() {
    survives("tcp_listening");
}

#[test]
fn udp_unconnected() {
    survives("udp");
}
