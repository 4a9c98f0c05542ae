//! Files that are not what they were at the checkpoint: named with what is different, and the user decides.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::process::Restored;
use ckpt_tests::subject::{Subject, compiled};
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// A subject that was saved and has ended, and the checkpoint.
struct Saved<'a> {
    sandbox: &'a Sandbox,
    subject: Subject,
    id: String,
}

impl<'a> Saved<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let mut subject = Subject::start_unready(sandbox, "changed_files", &[]);
        fs::copy(compiled("memory"), subject.dir().join("library")).expect("a library");
        fs::write(subject.dir().join("data"), "ten bytes.").expect("data");
        subject.tell("prepared");
        subject.wait_ready();
        sandbox.attach(subject.pid(), "files");
        sandbox.save("files");
        let id = sandbox.save("files");
        subject.process.kill();
        Saved { sandbox, subject, id }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.subject.dir().join(name)
    }

    fn restore(&self, options: &[&str]) -> Ran {
        self.sandbox.ckpt(["restore", &self.id, "--detach"].iter().chain(options))
    }

    /// It is restored, and tells of `words`; of no change if there are none.
    #[track_caller]
    fn comes_back(&self, options: &[&str], words: &[&str]) {
        self.subject.reset();
        let ran = self.restore(options);
        let restored = Restored::new(ran.done().parse().expect("a pid"));
        for word in words {
            assert!(ran.stderr().contains(word), "{word:?} is not told: {ran}");
        }
        assert_eq!(ran.stderr().contains("not what it was"), !words.is_empty(), "{ran}");
        self.subject.must_be_well("restored");
        restored.wait_gone();
    }
}

#[test]
fn files_that_have_not_changed() {
    isolated(|sandbox| {
        let saved = Saved::new(sandbox);
        saved.comes_back(&["--files", "check"], &[]);
        // The same version in another file.
        let (library, copy) = (saved.file("library"), saved.file("copy"));
        fs::copy(&library, &copy).expect("copy");
        fs::rename(&copy, &library).expect("rename");
        let (data, copy) = (saved.file("data"), saved.file("copy"));
        fs::copy(&data, &copy).expect("copy");
        fs::rename(&copy, &data).expect("rename");
        saved.comes_back(&["--files", "check"], &[]);
        saved.comes_back(&[], &[]);
    });
}

#[test]
fn data_that_has_changed() {
    isolated(|sandbox| {
        let saved = Saved::new(sandbox);
        let (data, log) = (saved.file("data"), saved.file("appended"));
        fs::write(&data, "ten bytes!").expect("write");
        let refused = |words: &[&str]| {
            for policy in ["check", "restore"] {
                let words: Vec<&str> = words.iter().copied().chain(["--files keep"]).collect();
                saved.restore(&["--files", policy]).refused(1, &words);
            }
        };
        refused(&["data", "other contents"]);
        saved.comes_back(&[], &["data", "other contents"]);
        fs::write(&data, "four").expect("truncate");
        fs::OpenOptions::new().append(true).open(&log).expect("log").write_all(b"more\n").expect("append");
        refused(&["data", "size 10 -> 4", "appended", "size 6 -> 11"]);
        saved.comes_back(&[], &["data", "size 10 -> 4", "appended", "size 6 -> 11"]);
        saved.comes_back(&["--files", "keep"], &["data", "size 10 -> 4", "appended", "size 6 -> 11"]);
        fs::remove_file(&data).expect("remove");
        for options in [&[][..], &["--files", "keep"], &["--files", "check"]] {
            saved.restore(options).refused(1, &["data", "gone", "10 bytes"]);
        }
    });
}

#[test]
fn code_that_has_changed() {
    isolated(|sandbox| {
        let saved = Saved::new(sandbox);
        let library = saved.file("library");
        fs::remove_file(&library).expect("remove");
        fs::copy(compiled("eventfd"), &library).expect("another library");
        for options in [&[][..], &["--files", "check"], &["--files", "restore"]] {
            saved.restore(options).refused(1, &["library", "code", "build-id", " -> ", "--files keep"]);
        }
        saved.comes_back(&["--files", "keep"], &["library", "code", "build-id"]);
        fs::write(&library, "no library").expect("truncate");
        saved.restore(&["--files", "keep"]).refused(1, &["library", "shorter"]);
        fs::remove_file(&library).expect("remove");
        saved.restore(&["--files", "keep"]).refused(1, &["library", "gone"]);
    });
}
