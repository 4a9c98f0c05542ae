//! TCP and UDP sockets without a connection.
ckpt_tests::survives! {
    fn tcp_that_listens => "tcp_listening";
    fn tcp_connections_come_back_closed => "tcp_lost";
    fn udp_unconnected => "udp";
}
