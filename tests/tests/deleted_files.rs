//! Files without a name.
use ckpt_tests::capability::capability;
use ckpt_tests::isolated;

#[test]
fn open_deleted_files() {
    isolated(|sandbox| {
        // O_TMPFILE among the flags tells how a file was made; a deleted file's old name may be another file's by now.
        capability("deleted_files").may_differ(&["fd 5 info", "fd 6 link"]).run(sandbox);
    });
}

#[test]
fn files_that_no_path_leads_to() {
    isolated(|sandbox| {
        // A file made again is another inode to a watch; one that has another name is shown under that.
        capability("nameless").may_differ(&["fd 9 link", "fd 11 info"]).run(sandbox);
    });
}

ckpt_tests::survives! {
    fn mapped_deleted_files => "deleted_mapping";
}
