//! A checkpoint is of one moment, however much the program writes while it is taken.
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated};

fn every_page_is_of_the_same_one(sandbox: &Sandbox, args: &[&str]) {
    let mut subject = Subject::start(sandbox, "moments", args);
    sandbox.attach(subject.pid(), "moments");
    let ids: Vec<String> = (0..4).map(|_| sandbox.save("moments")).collect();
    subject.must_be_well("saved");
    assert!(subject.process.wait().success());
    for (number, id) in ids.iter().enumerate() {
        subject.reset();
        let restore = |id: &str| match number % 2 {
            0 => sandbox.restore(id),
            _ => sandbox.restore_lazily(id),
        };
        let restored = restore(id);
        // What is tracked from the restore on counts from here.
        let next = [sandbox.save("moments"), sandbox.save("moments")];
        subject.must_be_well("restored");
        restored.wait_gone();
        for id in &next {
            subject.reset();
            let restored = restore(id);
            subject.must_be_well("restored once more");
            restored.wait_gone();
        }
    }
}

#[test]
fn of_one_process() {
    isolated(|sandbox| every_page_is_of_the_same_one(sandbox, &[]));
}

#[test]
fn of_two_processes_that_had_the_same_pages() {
    isolated(|sandbox| every_page_is_of_the_same_one(sandbox, &["forked"]));
}
