//! Pipes and FIFOs.
use ckpt_tests::capability::survives;

#[test]
fn bytes_packets_and_lost_ends() {
    survives("pipes");
}
