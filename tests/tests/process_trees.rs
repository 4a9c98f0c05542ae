//! Parents and children: pids, exit statuses, groups, sessions, and what they share.
ckpt_tests::survives! {
    fn children_with_pipes_and_exit_statuses => "tree";
    fn sessions_groups_and_orphans => "sessions";
    fn processes_that_a_signal_has_stopped => "stops";
    fn what_clone_shares => "sharing";
}
