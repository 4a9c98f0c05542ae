//! Pages that are written from each checkpoint to the next are left unprotected: the program is spared a page fault for each. It counts them itself.
use ckpt_tests::isolated;
use ckpt_tests::sandbox::{self, Sandbox};
use ckpt_tests::subject::Subject;

/// Pages that the subject rewrites.
const PAGES: u64 = 2048;
/// Pages that a thread of it never ceases to write to.
const BUSY: u64 = 8;

/// Has it rewrite its memory for the `round`th time: page faults that took, and those of the thread so far.
fn rewrite(subject: &Subject, round: u64) -> (u64, u64) {
    subject.tell(&format!("rewrite-{round}"));
    let name = format!("rewritten-{round}");
    subject.wait_for(&name);
    let text = std::fs::read_to_string(subject.dir().join(name)).expect("what it says");
    let numbers = text.split_once(' ').expect("two numbers");
    (numbers.0.parse().expect("a number"), numbers.1.parse().expect("a number"))
}

fn pages_dirty(saved: &serde_json::Value) -> u64 {
    saved["pages_dirty"].as_u64().expect("pages_dirty")
}

/// Kills it after so many rounds, and brings checkpoints back, each with the rounds that it was taken after.
fn must_restore(sandbox: &Sandbox, mut subject: Subject, rounds: u64, saved: &[(&str, u64)]) {
    subject.process.kill();
    (1..=rounds).for_each(|round| subject.forget(&format!("rewrite-{round}")));
    subject.must_come_back(sandbox, saved.iter().map(|(id, round)| (id, format!("round {round}"))));
}

#[test]
fn memory_that_is_rewritten_from_one_checkpoint_to_the_next() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "hot_pages", &[]);
        sandbox.attach(subject.pid(), "hot");
        // The first tells nothing, the second that all was written, the third that all was written again.
        let mut faults = Vec::new();
        let mut ids = Vec::new();
        for round in 1..=3 {
            let saved = sandbox.save_with("hot", &[]);
            assert!(pages_dirty(&saved) >= PAGES, "{saved}");
            ids.push(sandbox::id(&saved));
            faults.push(rewrite(&subject, round).0);
        }
        assert!(faults[0] >= PAGES && faults[1] >= PAGES, "it was not tracked: {faults:?}");
        assert!(faults[2] < PAGES / 8, "all was protected again: {faults:?}");
        // It is not written any more, which cannot be seen at once.
        let saved: Vec<_> = (0..4).map(|_| sandbox.save_with("hot", &[])).collect();
        assert!(pages_dirty(&saved[0]) >= PAGES, "{}", saved[0]);
        assert!(pages_dirty(&saved[3]) < PAGES / 8, "{}", saved[3]);
        let (again, _) = rewrite(&subject, 4);
        assert!(again >= PAGES, "it was not tracked: {again}");
        let last = sandbox.save("hot");
        ids.extend(saved.iter().map(sandbox::id));
        must_restore(sandbox, subject, 4, &[(&last, 4), (&ids[2], 2), (&ids[3], 3), (&ids[6], 3)]);
    });
}

/// Page faults that the thread has while a checkpoint is taken and until it has come further. It may wait for a processor when it is to write, so not each checkpoint tells.
#[test]
fn pages_that_a_thread_never_ceases_to_write_to() {
    isolated(|sandbox| {
        let subject = Subject::start(sandbox, "hot_pages", &[]);
        sandbox.attach(subject.pid(), "hot");
        sandbox.save("hot");
        let (_, mut before) = rewrite(&subject, 1);
        for round in 2..200 {
            let id = sandbox.save("hot");
            let (_, now) = rewrite(&subject, round);
            if now - before < BUSY / 2 {
                return must_restore(sandbox, subject, round, &[(&id, round - 1)]);
            }
            before = now;
        }
        panic!("the thread is made to ask for its pages after each checkpoint");
    });
}
