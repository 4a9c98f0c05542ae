//! TCP and UDP sockets without a connection.
ckpt_tests::survives! {
    fn tcp_that_listens => "tcp_listening";
    fn udp_unconnected => "udp";
}
