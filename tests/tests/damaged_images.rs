//! Every byte of an image is checked before it is used: a damaged file is refused by its name.
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("store").flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

struct Damaged<'a> {
    sandbox: &'a Sandbox,
    ids: Vec<String>,
    subject: Subject,
}

impl Damaged<'_> {
    /// `verify` names one of the damaged files, and so does the restore of a checkpoint that needs what is damaged.
    #[track_caller]
    fn must_be_refused(&self, what: &str, damaged: &[&Path]) {
        assert!(
            self.refused(what, damaged) > 0,
            "{what}: every checkpoint restores, so what is the file for?"
        );
    }

    /// `verify` names one of the damaged files; no checkpoint that needs one of them is restored: there is none that
    /// restores and is not what it was. How many are not restored.
    #[track_caller]
    fn refused(&self, what: &str, damaged: &[&Path]) -> usize {
        let named = |message: &str| damaged.iter().any(|path| message.contains(name(path)));
        let message = self.sandbox.ckpt(["verify"]).refused(1, &[]);
        assert!(named(&message), "{what}: verify does not name the file: {message}");
        let mut refused = 0;
        for id in &self.ids {
            self.subject.reset();
            let ran = self.sandbox.ckpt(["restore", id, "--detach"]);
            if ran.status() == 0 {
                let restored = ckpt_tests::process::Restored::new(ran.done().parse().expect("a pid"));
                self.subject.must_be_well(what);
                restored.wait_gone();
            } else {
                let message = ran.refused(1, &[]);
                assert!(named(&message), "{what}: restore {id} does not name the file: {message}");
                refused += 1;
            }
        }
        refused
    }
}

/// Where a file has hashes of pages, by which a save finds what is stored already. No restore needs them.
fn hashes(path: &Path, whole: &[u8]) -> Range<usize> {
    if !name(path).ends_with(".pack") {
        return 0..0;
    }
    let trailer = whole.len() - 80;
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().expect("four bytes")) as usize;
    let end = trailer - 40 * number(trailer);
    end - 16 * number(trailer + 8)..end
}

#[test]
fn flipped_cut_and_swapped_files() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "memory", &[]);
        sandbox.attach(subject.pid(), "memory");
        let ids: Vec<String> = (0..3).map(|_| sandbox.save("memory")).collect();
        subject.process.kill();
        let files = files(&sandbox.store());
        assert!(files.len() >= 6, "{files:?}");
        let damaged = Damaged { sandbox, ids, subject };
        for (index, file) in files.iter().enumerate() {
            let whole = fs::read(file).expect("read");
            if whole.is_empty() {
                continue;
            }
            let places = [0, whole.len() / 3, whole.len() / 2, hashes(file, &whole).start, whole.len() - 1];
            for at in places {
                let bit = 1 << (at % 8);
                write_at(file, at, whole[at] ^ bit);
                let what = format!("{}: byte {at} of {} flipped", name(file), whole.len());
                if hashes(file, &whole).contains(&at) {
                    assert_eq!(damaged.refused(&what, &[file]), 0, "{what}: a hash of a page");
                } else {
                    damaged.must_be_refused(&what, &[file]);
                }
                write_at(file, at, whole[at]);
            }
            for length in [0, 1, whole.len() / 2, whole.len() - 1] {
                fs::write(file, &whole[..length]).expect("truncate");
                damaged.must_be_refused(&format!("{} cut to {length} bytes", name(file)), &[file]);
            }
            fs::write(file, [&whole[..], b"more"].concat()).expect("extend");
            damaged.must_be_refused(&format!("{} longer than it was", name(file)), &[file]);
            fs::write(file, &whole).expect("mend");
            for other in &files[index + 1..] {
                let others = fs::read(other).expect("read");
                if others != whole && file.extension() == other.extension() {
                    fs::write(file, &others).expect("swap");
                    fs::write(other, &whole).expect("swap");
                    let what = format!("{} and {} swapped", name(file), name(other));
                    damaged.must_be_refused(&what, &[file, other]);
                    fs::write(file, &whole).expect("mend");
                    fs::write(other, &others).expect("mend");
                }
            }
            fs::remove_file(file).expect("remove");
            // Without its manifest, a checkpoint is not there; whatever else is missed is missed by name.
            if !name(file).ends_with(".manifest") {
                damaged.must_be_refused(&format!("{} removed", name(file)), &[file]);
            }
            fs::write(file, &whole).expect("mend");
        }
        sandbox.ckpt(["verify"]).done();
    });
}

fn write_at(path: &Path, offset: usize, byte: u8) {
    let file = fs::File::options().write(true).open(path).expect("open");
    file.write_all_at(&[byte], u64::try_from(offset).expect("an offset")).expect("write");
}
