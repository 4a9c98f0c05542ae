//! Pipes and FIFOs.
ckpt_tests::survives! {
    fn bytes_packets_and_lost_ends => "pipes";
}
