//! Message queues of System V and POSIX.
ckpt_tests::survives! {
    fn system_v_message_queues => "message_queues";
    fn posix_message_queues => "posix_queues";
}
