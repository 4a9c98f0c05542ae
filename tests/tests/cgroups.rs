//! Control groups: who is where, what is set, and what is frozen.
use ckpt_tests::subject::Subject;
use ckpt_tests::{Sandbox, isolated, tree, wait};
use nix::mount::{MsFlags, mount};
use std::fs;
use std::path::{Path, PathBuf};

/// Groups of a test's own, that go with it.
struct Groups {
    name: String,
    v2: Option<PathBuf>,
    v1: Option<PathBuf>,
    freezer: Option<PathBuf>,
}

impl Groups {
    /// Finds hierarchies of both versions, or says that there are none.
    fn find(sandbox: &Sandbox, name: &str) -> Self {
        let named = sandbox.dir().join("named");
        fs::create_dir(&named).expect("directory");
        // Unlike those of other tests, also when this one runs twice at once.
        let name = format!("ckpt-test-{name}-{:x}", sandbox_number(sandbox));
        let options = format!("none,name={name}");
        let mounted = mount(Some("none"), &named, Some("cgroup"), MsFlags::empty(), Some(options.as_str()));
        let v1 = mounted.map(|()| named).map_err(|errno| eprintln!("not exercised: version 1: {errno}")).ok();
        let found = Self {
            name,
            v2: mounted_at("cgroup2", None),
            v1,
            freezer: mounted_at("cgroup", Some("freezer")),
        };
        if found.v2.is_none() {
            eprintln!("not exercised: version 2 is not mounted");
        }
        found
    }

    fn start(&self, sandbox: &Sandbox, how: &str) -> Subject {
        let path =
            |path: &Option<PathBuf>| path.as_ref().map_or("-".into(), |path| path.display().to_string());
        Subject::start(sandbox, "cgroups", &[&path(&self.v2), &path(&self.v1), &self.name, how])
    }

    fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        [&self.v2, &self.v1, &self.freezer].into_iter().flatten().map(|dir| dir.join(&self.name))
    }

    /// Removes them, once nobody is in them.
    fn remove(&self) {
        for dir in self.dirs().filter(|dir| dir.exists()) {
            for below in
                fs::read_dir(&dir).expect("directory").flatten().filter(|entry| entry.path().is_dir())
            {
                remove(&below.path());
            }
            remove(&dir);
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove();
        }
    }
}

fn sandbox_number(sandbox: &Sandbox) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (sandbox.dir(), std::time::SystemTime::now()).hash(&mut hasher);
    hasher.finish() & 0xffff_ffff
}

fn remove(dir: &Path) {
    wait::until(&format!("{} to be empty", dir.display()), || fs::remove_dir(dir).ok());
}

/// Where a whole hierarchy is mounted.
fn mounted_at(kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts.lines().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let place: Vec<&str> = place.split(' ').collect();
        let what: Vec<&str> = what.split(' ').collect();
        let has = controller
            .is_none_or(|wanted| what.get(2).is_some_and(|options| options.split(',').any(|o| o == wanted)));
        (what[0] == kind && has && place[3] == "/").then(|| PathBuf::from(place[4]))
    })
}

/// The groups of all threads of a job.
fn membership(name: &str, root: i32) -> Vec<String> {
    let mut found = Vec::new();
    for pid in tree::family(root) {
        for task in fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten() {
            let text = fs::read_to_string(task.path().join("cgroup")).expect("groups");
            // Hierarchies of other tests come and go.
            let lines = text.lines().filter(|line| line.contains(name) || !line.contains("name=ckpt-test"));
            found.push(format!("{}\n{}", task.file_name().display(), lines.collect::<Vec<_>>().join("\n")));
        }
    }
    found.sort();
    found
}

#[test]
fn groups_that_are_gone_are_made_again() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "own");
        let mut subject = groups.start(sandbox, "own");
        let before = membership(&groups.name, subject.pid());
        sandbox.attach(subject.pid(), "job");
        let first = sandbox.save("job");
        let second = sandbox.save("job");
        assert_eq!(membership(&groups.name, subject.pid()), before);
        subject.process.kill();
        for id in [first, second] {
            groups.remove();
            let restored = sandbox.restore(&id);
            assert_eq!(membership(&groups.name, restored.pid()), before);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}

#[test]
fn groups_that_are_there_stay_as_they_are() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "there");
        let mut subject = groups.start(sandbox, "own");
        let before = membership(&groups.name, subject.pid());
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        let setting = groups.v2.as_ref().map(|dir| dir.join(&groups.name).join("cgroup.max.descendants"));
        setting.iter().for_each(|path| fs::write(path, "5").expect("write"));
        let restored = sandbox.restore(&id);
        assert_eq!(membership(&groups.name, restored.pid()), before);
        setting.iter().for_each(|path| assert_eq!(fs::read_to_string(path).expect("read"), "5\n"));
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

#[test]
fn a_cgroup_namespace_begins_where_it_began() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "namespace");
        let mut subject = groups.start(sandbox, "namespace");
        let before = membership(&groups.name, subject.pid());
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        assert_eq!(membership(&groups.name, subject.pid()), before);
        subject.process.kill();
        groups.remove();
        let restored = sandbox.restore(&id);
        assert_eq!(membership(&groups.name, restored.pid()), before);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// A freezer: what freezes, and what says that all is frozen.
struct Freezer {
    dir: PathBuf,
    control: &'static str,
    words: [&'static str; 2],
    state: &'static str,
}

impl Freezer {
    /// Moves a subject there, unless it has gone there itself.
    fn take(&self, root: i32) {
        if self.dir.exists() {
            return;
        }
        fs::create_dir(&self.dir).expect("group");
        for pid in tree::family(root) {
            fs::write(self.dir.join("cgroup.procs"), pid.to_string()).expect("move");
        }
    }

    fn set(&self, frozen: bool) {
        fs::write(self.dir.join(self.control), self.words[usize::from(frozen)]).expect("freeze or thaw");
    }

    fn wait_frozen(&self) {
        wait::until("the group to be frozen", || {
            let text = fs::read_to_string(self.dir.join(self.state)).ok()?;
            (text.contains("frozen 1") || text.trim() == "FROZEN").then_some(())
        });
    }
}

fn freezers(groups: &Groups) -> Vec<Freezer> {
    let v2 = groups.v2.as_ref().map(|dir| Freezer {
        dir: dir.join(&groups.name),
        control: "cgroup.freeze",
        words: ["0", "1"],
        state: "cgroup.events",
    });
    let v1 = groups.freezer.as_ref().map(|dir| Freezer {
        dir: dir.join(&groups.name),
        control: "freezer.state",
        words: ["THAWED", "FROZEN"],
        state: "freezer.state",
    });
    v2.into_iter().chain(v1).collect()
}

#[test]
fn what_is_frozen_is_saved_and_comes_back_frozen() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "frozen");
        for freezer in freezers(&groups) {
            let mut subject = groups.start(sandbox, "own");
            freezer.take(subject.pid());
            sandbox.attach(subject.pid(), "job");
            freezer.set(true);
            freezer.wait_frozen();
            sandbox.ckpt(["check", &subject.pid().to_string()]).done();
            let id = sandbox.save("job");
            freezer.wait_frozen();
            freezer.set(false);
            subject.process.kill();
            groups.remove();
            let restored = sandbox.restore(&id);
            freezer.wait_frozen();
            freezer.set(false);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
            groups.remove();
        }
    });
}

#[test]
fn a_frozen_group_that_holds_others_is_refused() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "shared");
        for freezer in freezers(&groups) {
            let mut subject = groups.start(sandbox, "own");
            let mut other = Subject::start(sandbox, "sleeps", &[]);
            freezer.take(subject.pid());
            fs::write(freezer.dir.join("cgroup.procs"), other.pid().to_string()).expect("move");
            freezer.set(true);
            freezer.wait_frozen();
            let pid = subject.pid().to_string();
            sandbox.ckpt(["check", &pid]).refused(1, &[&groups.name, "frozen"]);
            sandbox.ckpt(["save", &pid]).refused(1, &[&groups.name, "frozen"]);
            freezer.wait_frozen();
            freezer.set(false);
            other.process.kill();
            subject.process.kill();
            groups.remove();
        }
    });
}

#[test]
fn what_was_frozen_is_frozen_when_a_capture_is_killed() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "killed");
        sandbox.start_daemon(&[("CKPT_FAULT", "capture.captured:kill")]);
        for freezer in freezers(&groups).into_iter().take(1) {
            let subject = groups.start(sandbox, "own");
            sandbox.attach(subject.pid(), "job");
            freezer.set(true);
            freezer.wait_frozen();
            sandbox.ckpt(["save", "job"]).refused(1, &[]);
            freezer.wait_frozen();
            freezer.set(false);
            subject.must_be_well("original");
        }
    });
}

/// Starts a tree that forks all the time, alone in a group of version 2.
fn forks(sandbox: &Sandbox, groups: &Groups, dir: &Path) -> Subject {
    fs::create_dir(dir.join(&groups.name)).expect("group");
    let subject = Subject::start(sandbox, "forks", &[]);
    let procs = dir.join(&groups.name).join("cgroup.procs");
    // Those that are born meanwhile are where their parents were.
    wait::until("all of the tree to be in the group", || {
        let there = fs::read_to_string(&procs).expect("group");
        let is_there = |pid: &i32| there.lines().any(|line| line == pid.to_string());
        let strangers: Vec<i32> =
            tree::family(subject.pid()).into_iter().filter(|pid| !is_there(pid)).collect();
        for pid in &strangers {
            // It may have ended.
            let _ = fs::write(&procs, pid.to_string());
        }
        strangers.is_empty().then_some(())
    });
    subject
}

#[test]
fn a_tree_alone_in_a_group_stands_still_as_a_whole() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "alone");
        let Some(dir) = &groups.v2 else { return };
        let mut subject = forks(sandbox, &groups, dir);
        sandbox.attach(subject.pid(), "job");
        let ids: Vec<String> = (0..10).map(|_| sandbox.save("job")).collect();
        subject.must_be_well("saved");
        assert!(subject.process.wait().success());
        for id in ids.iter().step_by(3) {
            subject.reset();
            groups.remove();
            let restored = sandbox.restore(id);
            sandbox.save("job");
            subject.must_be_well("restored");
            restored.wait_gone();
        }
    });
}

#[test]
fn a_job_does_not_stay_frozen_when_its_capture_is_killed() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "standstill");
        let Some(dir) = &groups.v2 else { return };
        let group = dir.join(&groups.name);
        let is_frozen = || fs::read_to_string(group.join("cgroup.freeze")).expect("group").trim() == "1";
        sandbox.start_daemon(&[("CKPT_FAULT", "capture.standstill:kill")]);
        let subject = forks(sandbox, &groups, dir);
        sandbox.attach(subject.pid(), "job");
        sandbox.ckpt(["save", "job"]).refused(1, &[]);
        wait::until("the group to be thawed", || (!is_frozen()).then_some(()));
        // As if whoever stood by had been killed, too.
        let python =
            format!("import os; os.setxattr({:?}, 'user.ckpt.frozen', b'1')", group.display().to_string());
        let noted = std::process::Command::new("python3").args(["-c", &python]).status().expect("python3");
        assert!(noted.success());
        fs::write(group.join("cgroup.freeze"), "1").expect("freeze");
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        assert!(!is_frozen());
        subject.must_be_well("original");
    });
}

#[test]
fn a_cgroup_namespace_of_a_child() {
    isolated(|sandbox| {
        let groups = Groups::find(sandbox, "child");
        let mut subject = groups.start(sandbox, "child");
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/cgroup")).expect("a namespace");
        let own = namespace(subject.pid());
        // Seen from the test, and which processes are in the root's namespace.
        let look = |root: i32| {
            let mut pids = tree::family(root);
            pids.sort_unstable();
            let apart: Vec<bool> = pids.iter().map(|pid| namespace(*pid) != own).collect();
            (membership(&groups.name, root), apart)
        };
        let before = look(subject.pid());
        assert_eq!(before.1, [false, true, true]);
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.attach(subject.pid(), "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!(look(subject.pid()), before);
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&incremental)] {
            groups.remove();
            let restored = sandbox.restore(&id);
            assert_eq!(look(restored.pid()), before);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}
