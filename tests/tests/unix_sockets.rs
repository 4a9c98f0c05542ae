//! UNIX sockets.
ckpt_tests::survives! {
    fn connected_with_queued_messages => "unix_sockets";
    fn listening_and_bound => "unix_listening";
    fn descriptors_under_way => "scm_rights";
    fn several_messages_in_each => "peek_offset";
}
