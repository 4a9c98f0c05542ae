//! Directories that their owner makes into symbolic links between the save and the restore: root's restore does not follow them to files of others.
use ckpt_tests::process::Process;
use ckpt_tests::subject::Subject;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Somebody who is not root.
const USER: u32 = 4711;

/// A directory of the user's below `at`, and one of root's; each has a file `victim`.
fn directories(at: &Path) -> (PathBuf, PathBuf) {
    let make = |name: &str, owner: u32, text: &str| {
        let directory = at.join(name);
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join("victim"), text).expect("a file");
        for path in [&directory, &directory.join("victim")] {
            chown(path, Some(owner), Some(owner)).expect("chown");
        }
        directory
    };
    (make("mine", USER, &"m".repeat(8192)), make("roots", 0, "of root"))
}

fn swap(mine: &Path, roots: &Path) {
    fs::rename(mine, mine.with_extension("old")).expect("rename");
    symlink(roots, mine).expect("a link");
    lchown(mine, Some(USER), Some(USER)).expect("lchown");
}

fn swap_back(mine: &Path) {
    fs::remove_file(mine).expect("remove");
    fs::rename(mine.with_extension("old"), mine).expect("rename");
}

/// A restore is refused while a directory on the way is a link of the user's, and done when the link is root's.
fn refused_then_done(sandbox: &Sandbox, id: &str, (mine, roots): (&Path, &Path)) {
    let before = fs::read(roots.join("victim")).expect("a file");
    swap(mine, roots);
    sandbox
        .ckpt(["restore", id, "--detach"])
        .refused(1, &[&mine.display().to_string(), "symbolic link", "chown"]);
    assert_eq!(fs::read(roots.join("victim")).expect("a file"), before);
    swap_back(mine);
    let moved = mine.with_extension("moved");
    fs::rename(mine, &moved).expect("rename");
    symlink(&moved, mine).expect("a link");
    sandbox.restore(id).kill();
}

#[test]
fn of_a_file_that_is_mapped_shared() {
    isolated(|sandbox| {
        let memory = sandbox.dir().join("memory");
        fs::create_dir(&memory).expect("a directory");
        ckpt_tests::shell::run(&format!("mount -t tmpfs none {}", memory.display()));
        let (mine, roots) = directories(&memory);
        let victim = mine.join("victim").display().to_string();
        let mut subject = Subject::start(sandbox, "posix_memory", &["hold", &victim]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        refused_then_done(sandbox, &id, (&mine, &roots));
    });
}

#[test]
fn of_a_file_that_is_open() {
    isolated(|sandbox| {
        let (mine, roots) = directories(sandbox.dir());
        let script = format!("exec 3<>{}/victim; exec sleep 100000", mine.display());
        let mut job = start(Command::new("sh").args(["-ec", &script]).current_dir("/"));
        until("it sleeps", || {
            fs::read_to_string(format!("/proc/{}/comm", job.pid())).ok().filter(|name| name == "sleep\n")
        });
        sandbox.attach(job.pid(), "job");
        let id = sandbox.save("job");
        job.kill();
        refused_then_done(sandbox, &id, (&mine, &roots));
    });
}

fn start(command: &mut Command) -> Process {
    Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

/// Something that was mounted and removed, where a link of the same name leads outside now: it is made again beside that.
#[test]
fn of_what_is_mounted_and_removed() {
    isolated(|sandbox| {
        let (_, roots) = directories(sandbox.dir());
        let (dir, link) = (sandbox.dir().display(), roots.display());
        let ready = sandbox.dir().join("ready");
        let script = format!(
            "cd {dir}; mkdir m there; : > bound; mount -t tmpfs t m; mkdir -p m/a/victim.d; echo mine > m/a/victim; \
             mount --bind m/a/victim bound; mount --bind m/a/victim.d there; rm -r m/a; ln -s {link} m/a; : > ready; exec sleep 100000"
        );
        fs::create_dir(roots.join("victim.d")).expect("a directory");
        let mut job = start(Command::new("unshare").args(["--mount", "sh", "-ec", &script]));
        until("it sleeps", || ready.exists().then_some(()));
        sandbox.attach(job.pid(), "job");
        let id = sandbox.save("job");
        job.kill();
        let restored = sandbox.restore(&id);
        assert_eq!(fs::read_to_string(roots.join("victim")).expect("a file"), "of root");
        assert!(fs::metadata(roots.join("victim.d")).expect("a directory").is_dir());
        assert_eq!(fs::metadata(&roots).expect("a directory").uid(), 0);
        let inside = |path: &str| PathBuf::from(format!("/proc/{}/root{dir}/{path}", restored.pid()));
        assert_eq!(fs::read_to_string(inside("bound")).expect("a file"), "mine\n");
        assert_eq!(fs::read_link(inside("m/a")).expect("a link"), roots);
        let left = fs::read_dir(inside("m")).expect("a directory").count();
        assert_eq!(left, 1, "what was removed is removed again");
        restored.kill();
    });
}

#[test]
fn of_a_layer_of_an_overlay() {
    isolated(|sandbox| {
        let (mine, roots) = directories(sandbox.dir());
        let (dir, layer) = (sandbox.dir().display(), mine.display());
        let script = format!(
            "mkdir {dir}/empty {dir}/m; mount -t overlay none -o lowerdir={layer}:{dir}/empty {dir}/m; : > {dir}/ready; exec sleep 100000"
        );
        let mut job = start(Command::new("unshare").args(["--mount", "sh", "-ec", &script]).current_dir("/"));
        until("it sleeps", || sandbox.dir().join("ready").exists().then_some(()));
        sandbox.attach(job.pid(), "job");
        let id = sandbox.save("job");
        job.kill();
        refused_then_done(sandbox, &id, (&mine, &roots));
    });
}
