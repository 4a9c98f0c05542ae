//! UNIX sockets.
use ckpt_tests::capability::survives;

#[test]
fn connected_with_queued_messages() {
    survives("unix_sockets");
}

#[test]
fn listening_and_bound() {
    survives("unix_listening");
}

#[test]
fn descriptors_under_way() {
    survives("scm_rights");
}
