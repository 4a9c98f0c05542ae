//! Signal actions and alternate stacks.
use ckpt_tests::capability::survives;

#[test]
fn handlers_and_alternate_stacks() {
    survives("signal_actions");
}
