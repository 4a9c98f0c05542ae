//! Signal actions and alternate stacks.
ckpt_tests::survives! {
    fn handlers_and_alternate_stacks => "signal_actions";
}
