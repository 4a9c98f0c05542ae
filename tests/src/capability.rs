//! The course that every subject runs: what is true of one kind of kernel object must be true of all.
use crate::Sandbox;
use crate::outside::View;
use crate::process::Restored;
use crate::sandbox::id;
use crate::subject::Subject;

/// A subject, and what may differ between it and its restored copy.
#[derive(Debug, Clone, Copy)]
pub struct Capability<'a> {
    subject: &'a str,
    args: &'a [&'a str],
    allowed: &'a [&'a str],
}

/// The subject of this name, without arguments.
#[must_use]
pub const fn capability(subject: &str) -> Capability<'_> {
    Capability { subject, args: &[], allowed: &[] }
}

impl<'a> Capability<'a> {
    /// Passes arguments to the subject, after its directory.
    #[must_use]
    pub const fn args(mut self, args: &'a [&'a str]) -> Self {
        self.args = args;
        self
    }

    /// Facts (by how they begin) that may differ, seen from outside.
    #[must_use]
    pub const fn may_differ(mut self, facts: &'a [&'a str]) -> Self {
        self.allowed = facts;
        self
    }

    /// Runs the course in `sandbox`: neither a check, which finds nothing in the way, nor a save changes the subject; a copy restored from a full and from an incremental
    /// checkpoint is the subject as it was; it can be saved again, incrementally, and that checkpoint restores too.
    ///
    /// # Panics
    /// When any of it does not hold.
    pub fn run(self, sandbox: &Sandbox) {
        self.stays_unharmed(sandbox);
        self.comes_back(sandbox);
    }

    fn stays_unharmed(self, sandbox: &Sandbox) {
        let mut subject = Subject::start(sandbox, self.subject, self.args);
        sandbox.attach(subject.pid(), "unharmed");
        let before = View::of(subject.pid());
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.save("unharmed");
        sandbox.save("unharmed");
        before.must_be_seen_of(subject.pid(), "the subject itself after two saves", self.allowed);
        subject.must_be_well("saved");
        assert!(subject.process.wait().success(), "the saved subject's exit: {}", subject.log());
    }

    fn comes_back(self, sandbox: &Sandbox) {
        let job = self.subject;
        let mut subject = Subject::start(sandbox, self.subject, self.args);
        for line in subject.not_exercised() {
            eprintln!("{job}: {line}");
        }
        sandbox.attach(subject.pid(), job);
        let full = sandbox.save_with(job, &[]);
        assert_eq!(full["kind"], "full", "the first checkpoint: {full}");
        let incremental = sandbox.save_with(job, &[]);
        assert_eq!(incremental["kind"], "incremental", "the second checkpoint: {incremental}");
        let before = View::of(subject.pid());
        subject.process.kill();

        let restored = self.restore(sandbox, &subject, &id(&full));
        before.must_be_seen_of(restored.pid(), "restored from the full checkpoint", self.allowed);
        let next = sandbox.save_with(job, &[]);
        assert_eq!(next["kind"], "incremental", "the first checkpoint after a restore: {next}");
        self.must_be_well(&subject, &restored, "restored from the full checkpoint");

        for (checkpoint, which) in
            [(&next, "saved again after a restore"), (&incremental, "incrementally saved")]
        {
            let restored = self.restore(sandbox, &subject, &id(checkpoint));
            before.must_be_seen_of(restored.pid(), which, self.allowed);
            self.must_be_well(&subject, &restored, which);
        }
    }

    fn restore(self, sandbox: &Sandbox, subject: &Subject, id: &str) -> Restored {
        subject.reset();
        subject.tell("restored");
        let restored = sandbox.restore(id);
        assert_eq!(restored.pid(), subject.pid(), "the pid of the restored process");
        restored
    }

    fn must_be_well(self, subject: &Subject, restored: &Restored, which: &str) {
        subject.must_be_well(which);
        restored.wait_gone();
    }
}

/// Tests that a subject runs the whole course: `fn NAME => SUBJECT;`. A macro, as [`crate::isolated`] knows the test by the
/// place of its closure.
#[macro_export]
macro_rules! survives {
    ($(fn $name:ident => $subject:literal;)*) => { $(
        #[test]
        fn $name() {
            $crate::isolated(|sandbox| $crate::capability::capability($subject).run(sandbox));
        }
    )* };
}
