//! Huge pages of hugetlbfs.
use ckpt_tests::capability::capability;
use ckpt_tests::isolated;
use ckpt_tests::sandbox::id;
use ckpt_tests::subject::Subject;
use nix::mount::{MsFlags, mount};
use std::fs;
use std::path::{Path, PathBuf};

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/// What the subject needs, its child's copies included, and more.
const PAGES: u64 = 60;

/// The machine's huge pages as this test wants them, which they are no more when it is dropped.
struct Pool {
    before: Vec<(PathBuf, String)>,
}

impl Pool {
    /// Lets programs have huge pages as they need them; None: this machine cannot.
    fn open() -> Option<Self> {
        let files = ["nr_overcommit_hugepages", "nr_hugepages"].map(|name| Path::new(POOL).join(name));
        let read = |path: PathBuf| fs::read_to_string(&path).ok().map(|text| (path, text));
        let pool = Self { before: files.into_iter().map(read).collect::<Option<_>>()? };
        pool.set(PAGES).then_some(pool)
    }

    fn set(&self, pages: u64) -> bool {
        fs::write(&self.before[0].0, pages.to_string()).is_ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (path, text) in &self.before {
            let _ = fs::write(path, text);
        }
    }
}

#[test]
fn huge_pages() {
    isolated(|sandbox| {
        let Some(pool) = Pool::open() else {
            eprintln!("not tested: no huge pages here");
            return;
        };
        let dir = sandbox.dir().join("huge");
        fs::create_dir(&dir).expect("a directory");
        mount(None::<&str>, &dir, Some("hugetlbfs"), MsFlags::empty(), None::<&str>).expect("hugetlbfs");
        let args = [dir.to_str().expect("a path")];
        capability("huge_pages").args(&args).run(sandbox);

        let mut subject = Subject::start(sandbox, "huge_pages", &args);
        sandbox.attach(subject.pid(), "changing");
        sandbox.save("changing");
        subject.tell("change");
        subject.wait_for("changed");
        let saved = sandbox.save_with("changing", &[]);
        assert_eq!(saved["kind"], "incremental");
        subject.process.kill();
        fs::remove_file(dir.join("file")).expect("the file of huge pages");

        pool.set(0);
        sandbox.ckpt(["restore", &id(&saved)]).refused(1, &["huge pages of 2048 kB", "nr_hugepages"]);
        pool.set(PAGES);
        let restored = sandbox.restore(&id(&saved));
        subject.must_be_well("changed, then restored");
        restored.wait_gone();
    });
}
