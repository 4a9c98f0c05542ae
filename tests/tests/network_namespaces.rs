//! Network namespaces of jobs: interfaces, addresses, routes, rules, neighbours, nftables and settings.
use ckpt_tests::shell::{in_network_of, run};
use ckpt_tests::subject::{Subject, compiled};
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated, process};
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// What is to be the same.
const VIEWS: [&str; 10] = [
    "grep dport=7777 /proc/net/nf_conntrack | cut -d\" \" -f15- | sed \"s/use=.*//\" | sort",
    "ip -d -o link show type vxlan | sed \"s/ageing.*udpcsum/ageing/\"",
    "ip -d -o link show type bridge | sed \"s/[a-z_]*_timer *[0-9.]*//g\"",
    "ip -o link show | sed \"s/@if[0-9]*//\"",
    "ip -o addr show scope global",
    "ip route show table all proto static",
    "ip -6 route show table all proto static",
    "ip rule show",
    "ip neigh show nud permanent",
    "nft list ruleset",
];

fn views(pid: i32) -> Vec<String> {
    let settled = |view: &str| {
        // What an interface has done, and how its carrier is at the moment, is no configuration.
        let text = in_network_of(pid, view)
            .replace("state LOWERLAYERDOWN", "state UP")
            .replace("state UNKNOWN", "state UP");
        text.replace("state DOWN", "state UP")
            .replace("NO-CARRIER,", "")
            .replace(",LOWER_UP", "")
            .replace("M-DOWN,", "")
    };
    VIEWS.iter().map(|view| settled(view)).collect()
}

/// What is tracked grows with each greeting; all else is the same.
#[track_caller]
fn must_be_as(before: &[String], pid: i32) {
    let now = views(pid);
    assert!(before[0].lines().all(|line| now[0].contains(line)), "tracked: {} and now {}", before[0], now[0]);
    assert_eq!(now[1..], before[1..]);
}

fn greeting(address: &str) -> String {
    until("the server answers", || {
        let mut stream = TcpStream::connect((address, 7777)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    })
}

fn furnished(sandbox: &Sandbox) -> Subject {
    let mut subject = Subject::start_unready(sandbox, "network", &["own"]);
    subject.wait_for("unshared");
    let pid = subject.pid();
    run("ip link add br-out type bridge && ip link set br-out up && ip addr add 10.77.0.1/24 dev br-out");
    run(&format!("ip link add v-out type veth peer name eth0 netns {pid}"));
    run("ip link set v-out master br-out up");
    for command in [
        "ip link set lo up",
        "ip addr add 10.99.0.1/32 dev lo",
        "ip link set eth0 mtu 1400 address 02:00:00:00:77:02 up",
        "ip addr add 10.77.0.2/24 dev eth0",
        "ip addr add fd77::2/64 dev eth0 nodad",
        "ip link add inner type bridge stp_state 0 forward_delay 200",
        "ip link add left type veth peer name right",
        "ip link set left master inner up",
        "ip link set right up",
        "ip link set inner up",
        "ip addr add 10.78.0.1/24 dev inner",
        "ip link add link right name idle type macvlan mode bridge",
        "ip link set idle up",
        "ip link add mirror type ifb",
        "ip link add tunnel type vxlan id 77 dev eth0 dstport 4789 group 239.1.1.1 ttl 5",
        "ip link set tunnel up",
        "ip route add default via 10.77.0.1 proto static",
        "ip route add 10.79.0.0/16 via 10.78.0.7 metric 50 proto static",
        "ip route add 10.80.0.0/16 dev right table 100 proto static scope link",
        "ip -6 route add fd79::/64 via fd77::9 proto static",
        "ip rule add from 10.78.0.0/24 table 100 priority 500",
        "ip neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
        "nft add table ip filter",
        "nft add chain ip filter input { type filter hook input priority 0 \\; }",
        "nft add rule ip filter input tcp dport 9 drop",
        "nft add rule ip filter input ct state established accept",
        "sysctl -qw net.ipv4.conf.eth0.rp_filter=2 net.ipv4.ip_forward=1 net.ipv6.conf.inner.accept_ra=0",
    ] {
        in_network_of(pid, command);
    }
    subject.tell("furnished");
    subject.wait_ready();
    subject
}

#[test]
fn interfaces_routes_and_rules() {
    isolated(|sandbox| {
        let mut subject = furnished(sandbox);
        assert_eq!(greeting("10.77.0.2"), "hello");
        let before = views(subject.pid());
        assert!(before[0].contains("dport=7777"), "nothing is tracked");
        sandbox.ckpt(["check", &subject.pid().to_string()]).done();
        sandbox.attach(subject.pid(), "network");
        let id = sandbox.save("network");
        must_be_as(&before, subject.pid());
        subject.process.kill();
        until("the other end goes with the namespace", || {
            (!run("ip -o link show").contains("v-out")).then_some(())
        });

        // Somebody has the name that its other end has.
        run("ip link add v-out type bridge");
        sandbox.ckpt(["restore", &id, "--detach"]).refused(1, &["v-out", "eth0", "ip link del"]);
        run("ip link del v-out");

        let restored = sandbox.restore(&id);
        must_be_as(&before, restored.pid());
        let settings = in_network_of(
            restored.pid(),
            "sysctl -n net.ipv4.conf.eth0.rp_filter net.ipv4.ip_forward net.ipv6.conf.inner.accept_ra",
        );
        assert_eq!(settings.split_whitespace().collect::<Vec<_>>(), ["2", "1", "0"]);
        assert!(run("ip -o link show v-out").contains("master br-out"));
        assert_eq!(greeting("10.77.0.2"), "hello");
        let again = sandbox.save("network");
        subject.must_be_well("restored");
        restored.wait_gone();
        subject.reset();
        until("the other end goes", || (!run("ip -o link show").contains("v-out")).then_some(()));
        let restored = sandbox.restore(&again);
        must_be_as(&before, restored.pid());
        subject.must_be_well("restored again");
        restored.wait_gone();
    });
}

#[test]
fn a_namespace_with_a_name_is_gone_into() {
    isolated(|sandbox| {
        let program = compiled("network");
        fs::create_dir_all("/run/netns").expect("/run/netns");
        run("mount -t tmpfs none /run/netns && ip netns add place && ip -n place link set lo up");
        let dir = sandbox.dir().join("named");
        fs::create_dir(&dir).expect("directory");
        let mut command = Command::new("nsenter");
        command.arg("--net=/run/netns/place").arg(&program).arg(&dir).current_dir(&dir);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut subject = ckpt_tests::process::Process::start(&mut command);
        fs::write(dir.join("furnished"), "").expect("a file");
        until("the subject is ready", || dir.join("ready").exists().then_some(()));
        sandbox.attach(subject.pid(), "named");
        let id = sandbox.save("named");
        subject.kill();
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).expect("ns/net");

        let restored = sandbox.restore(&id);
        let wanted = run("ip netns exec place readlink /proc/self/ns/net");
        assert_eq!(namespace(restored.pid()).to_string_lossy(), wanted.trim());
        sandbox.ckpt(["save", "named", "--stop"]).done();
        until("it ends", || process::gone(restored.pid()).then_some(()));

        run("ip netns del place");
        sandbox.ckpt(["restore", &id, "--detach"]).refused(1, &["/run/netns/place", "ip netns add place"]);
    });
}
