//! Processes of a job that are in namespaces which its root is not in.
use ckpt_tests::isolated;
use ckpt_tests::subject::Subject;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;

const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "time", "cgroup"];

fn run(command: &str) -> String {
    let ran = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// The processes of a subject: its root, and those whose pids are in these files.
fn members(subject: &Subject, files: &[&str]) -> Vec<i32> {
    let read = |file: &&str| fs::read_to_string(subject.dir().join(file)).expect("a file");
    let others = files.iter().map(|file| read(file).parse().expect("a pid"));
    std::iter::once(subject.pid()).chain(others).collect()
}

/// For each kind, which of the processes are in the same namespace: the number of the first that is in it.
fn sharing(pids: &[i32]) -> Vec<(&'static str, Vec<usize>)> {
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
