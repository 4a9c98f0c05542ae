//! Processes of a job that are in namespaces which its root is not in.
use ckpt_tests::isolated;
use ckpt_tests::process::{Process, state};
use ckpt_tests::shell::run;
use ckpt_tests::subject::Subject;
use ckpt_tests::tree::family;
use ckpt_tests::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "time", "cgroup"];

/// Kinds of namespaces, and for each process the number of the first that is in the same.
type Sharing = Vec<(&'static str, Vec<usize>)>;

/// The processes of a subject: its root, and those whose pids are in these files.
fn members(subject: &Subject, files: &[&str]) -> Vec<i32> {
    let read = |file: &&str| fs::read_to_string(subject.dir().join(file)).expect("a file");
    let others = files.iter().map(|file| read(file).parse().expect("a pid"));
    std::iter::once(subject.pid()).chain(others).collect()
}

/// For each kind, which of the processes are in the same namespace: the number of the first that is in it.
fn sharing(pids: &[i32]) -> Sharing {
    let of = |kind: &'static str| {
        let link = |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        let links: Vec<_> = pids.iter().map(link).collect();
        let first = |link| links.iter().position(|other| other == link).expect("itself");
        (kind, links.iter().map(first).collect())
    };
    KINDS.into_iter().map(of).collect()
}

#[test]
fn network_and_host_name() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "sandboxed_children", &[]);
        let pids = members(&subject, &["child", "grandchild", "outside"]);
        let child = pids[1];
        run(&format!("ip link add v-out type veth peer name eth0 netns {child}"));
        run("ip link set v-out up && ip addr add 10.81.0.1/24 dev v-out");
        let inside = |command: &str| run(&format!("nsenter --net --uts --target {child} sh -c '{command}'"));
        inside(
            "ip link set eth0 up && ip addr add 10.81.0.2/24 dev eth0 && ip route add 10.82.0.0/16 via 10.81.0.1",
        );
        let views = || {
            let sockets = "ss -Hnltu | sort";
            // Without the numbers of interfaces: outside they are new ones.
            let addresses = "ip -o addr show scope global | cut -d: -f2-";
            let inner = [
                inside(addresses),
                inside("ip route"),
                inside("hostname; cat /proc/sys/kernel/domainname"),
                inside(sockets),
            ];
            (inner, run(addresses), run("hostname"), run(sockets))
        };
        let before = (sharing(&pids), views());
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.attach(subject.pid(), "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!((sharing(&pids), views()), before);
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&incremental)] {
            ckpt_tests::wait::until("the namespaces go", || {
                (!run("ip -o link show").contains("v-out")).then_some(())
            });
            let restored = sandbox.restore(&id);
            assert_eq!((sharing(&pids), views()), before);
            // Nobody listens there, but there it is.
            let reached = TcpStream::connect("10.81.0.2:1").expect_err("a refusal");
            assert_eq!(reached.kind(), ErrorKind::ConnectionRefused);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}

#[test]
fn mounts() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "private_mounts", &[]);
        let pids = members(&subject, &["child", "grandchild"]);
        // What each has, without the numbers of mounts and devices, and without whose events it gets.
        let views = || -> Vec<String> {
            let view =
                |pid| run(&format!("cut -d' ' -f4-6 /proc/{pid}/mountinfo | grep private_mounts | sort"));
            pids.iter().skip(1).map(view).collect()
        };
        let files = || -> Vec<String> {
            let numbers = "s/.*[0-9] //; s/:.[0-9]*.$//";
            let view = |pid| run(&format!("ls -l /proc/{pid}/fd /proc/{pid}/cwd | sed '{numbers}' | sort"));
            pids.iter().map(view).collect()
        };
        let before = (sharing(&pids), views(), files());
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.attach(subject.pid(), "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!((sharing(&pids), views(), files()), before);
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&incremental)] {
            let restored = sandbox.restore(&id);
            assert_eq!((sharing(&pids), views(), files()), before);
            // Nothing of it is seen outside.
            assert!(!subject.dir().join("private/map").exists());
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}

#[test]
fn ipc() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "private_ipc", &[]);
        let pids = members(&subject, &["child"]);
        let views = || -> Vec<String> {
            let view = |pid| run(&format!("nsenter --ipc --target {pid} ipcs -s -q"));
            pids.iter().map(view).collect()
        };
        let before = (sharing(&pids), views());
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        assert_eq!((sharing(&pids), views()), before);
        subject.process.kill();
        let restored = sandbox.restore(&id);
        assert_eq!((sharing(&pids), views()), before);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// What is known of the processes of a tree in each PID namespace from the test's on.
fn ids(root: i32) -> Vec<String> {
    let mut family = family(root);
    family.sort_unstable();
    let lines = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
        let wanted = ["Threads:", "NSpid:", "NSpgid:", "NSsid:", "State:\tZ"];
        // The root has another parent after a restore.
        let is_wanted = |line: &&str| {
            wanted.iter().any(|name| line.starts_with(name)) || line.starts_with("PPid:") && pid != root
        };
        status.lines().filter(is_wanted).collect::<Vec<_>>().join(" ")
    };
    family.into_iter().map(lines).collect()
}

/// The living processes of a tree by their pids, and which of them share namespaces; those of children, too.
fn shared_by(root: i32) -> (Vec<i32>, Sharing, Vec<bool>) {
    let mut pids = family(root);
    pids.retain(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok());
    pids.sort_unstable();
    let link = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a link");
    let makers = pids.iter().map(|pid| link(*pid, "pid") != link(*pid, "pid_for_children")).collect();
    (pids.clone(), sharing(&pids), makers)
}

#[test]
fn pids() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "contained_children", &[]);
        let root = subject.pid();
        let before = (ids(root), shared_by(root));
        sandbox.ckpt(["check", &root.to_string()]).done();
        sandbox.attach(root, "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!((ids(root), shared_by(root)), before);
        let stopped = sandbox.save_with("job", &["--stop"]);
        assert!(subject.process.wait().signal().is_some());
        for id in [first, ckpt_tests::sandbox::id(&incremental), ckpt_tests::sandbox::id(&stopped)] {
            let restored = sandbox.restore(&id);
            assert_eq!((ids(root), shared_by(root)), before);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}

#[test]
fn users() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "sandboxed_users", &[]);
        let root = subject.pid();
        let maps = |pid: i32| -> String {
            let read =
                |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a file of /proc");
            let status = read("status");
            let wanted =
                ["Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:"];
            let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
            [lines.collect(), read("uid_map"), read("gid_map"), read("setgroups")].concat()
        };
        let creds = || family(root).into_iter().map(maps).collect::<Vec<_>>();
        let before = (ids(root), shared_by(root), creds());
        sandbox.ckpt(["check", &root.to_string()]).done();
        sandbox.attach(root, "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!((ids(root), shared_by(root), creds()), before);
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&incremental)] {
            let restored = sandbox.restore(&id);
            assert_eq!((ids(root), shared_by(root), creds()), before);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}

/// Of each living process of a tree: which are in the same time namespace, and which have children in the same.
fn clocks(root: i32) -> (Sharing, Vec<usize>, Vec<i128>) {
    let mut pids = family(root);
    pids.sort_unstable();
    let links = |pid: &i32| {
        ["time", "time_for_children"]
            .map(|name| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a link"))
    };
    let all: Vec<_> = pids.iter().flat_map(links).collect();
    let first = all.iter().map(|link| all.iter().position(|other| other == link).expect("itself"));
    // By how much those of children are ahead of the one before.
    let offset = |pid: &i32| -> i128 {
        let text = fs::read_to_string(format!("/proc/{pid}/timens_offsets")).expect("offsets");
        let numbers: Vec<i128> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        numbers[0] * 1_000_000_000 + numbers[1] + 7 * (numbers[2] * 1_000_000_000 + numbers[3])
    };
    let offsets: Vec<i128> = pids.iter().skip(1).map(offset).collect();
    (sharing(&pids), first.collect(), offsets.windows(2).map(|pair| pair[1] - pair[0]).collect())
}

#[test]
fn time() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "private_clocks", &[]);
        let root = subject.pid();
        let before = clocks(root);
        sandbox.ckpt(["check", &root.to_string()]).done();
        sandbox.attach(root, "job");
        let first = sandbox.save("job");
        let incremental = sandbox.save_with("job", &[]);
        assert_eq!(clocks(root), before);
        subject.process.kill();
        for id in [first, ckpt_tests::sandbox::id(&incremental)] {
            let restored = sandbox.restore(&id);
            assert_eq!(clocks(root), before);
            subject.must_be_well("restored");
            restored.wait_gone();
            subject.reset();
        }
    });
}

/// The clocks go on from when the last timer was read, however long that took.
#[test]
fn no_timer_goes_off_early_after_a_slow_save() {
    isolated(|sandbox| {
        sandbox.start_daemon(&[("CKPT_FAULT", "capture.registers:stop")]);
        let mut subject = Subject::start(sandbox, "private_clocks", &[]);
        sandbox.attach(subject.pid(), "job");
        let mut saving = Process::start(&mut sandbox.command(["save", "job", "-q"]));
        let stopped = |pid: &i32| state(*pid) == Some('T');
        let worker =
            until("the worker stands still", || family(sandbox.daemon_pid()?).into_iter().find(stopped));
        let begin = Instant::now();
        until("time has passed", || (begin.elapsed() > Duration::from_millis(700)).then_some(()));
        kill(Pid::from_raw(worker), Signal::SIGCONT).expect("SIGCONT");
        assert!(saving.wait().success());
        subject.process.kill();
        let restored = sandbox.restore("job");
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}

/// What a restore could not do is refused by the save, with the object's name.
#[test]
fn what_could_not_come_back() {
    isolated(|sandbox| {
        let cases: [(&str, &[&str]); 7] = [
            ("device", &["no path leads to it"]),
            ("read-only", &["map/file", "read-only now"]),
            ("directories", &["its working directory", "user namespace"]),
            ("table", &["descriptor table", "user namespace"]),
            ("leader", &["process group", "whose leader comes after"]),
            ("network", &["net namespace", "the thread alone has left it"]),
            ("children", &["pid namespace that its children are born in", "the thread alone has left it"]),
        ];
        for (kind, named) in cases {
            let mut subject = Subject::start(sandbox, "refused_at_save", &[kind]);
            sandbox.ckpt(["check", &subject.pid().to_string()]).refused(1, named);
            sandbox.attach(subject.pid(), kind);
            sandbox.ckpt(["save", kind]).refused(1, named);
            subject.must_be_well("refused");
            assert!(subject.process.wait().success());
            for file in ["left", "first", "second", "leader"] {
                let _ = fs::remove_file(subject.dir().join(file));
            }
            subject.reset();
        }
    });
}

#[test]
fn a_dead_first_process() {
    isolated(|sandbox| {
        let mut subject = Subject::start(sandbox, "refused_at_save", &["zombie"]);
        sandbox.attach(subject.pid(), "job");
        let id = sandbox.save("job");
        subject.process.kill();
        let restored = sandbox.restore(&id);
        subject.must_be_well("restored");
        restored.wait_gone();
    });
}
