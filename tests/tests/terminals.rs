//! Terminals: pseudo terminals within a job, and the one outside that a job was started at.
use ckpt_tests::process::Process;
use ckpt_tests::pty::Pty;
use ckpt_tests::wait::until;
use ckpt_tests::{Sandbox, isolated};
use nix::sys::termios::LocalFlags;
use std::path::Path;
use std::process::Command;

ckpt_tests::survives! {
    fn pseudo_terminals => "terminals";
}

/// What the shell shows when it waits for a command: never what it echoes.
const PROMPT: &str = "ready-$?> ";

fn shell(sandbox: &Sandbox, pty: &Pty, line: &[&str]) -> Process {
    let mut command = Command::new(line[0]);
    sandbox.configure(&mut command);
    command.args(&line[1..]).env("PS1", PROMPT).env("TERM", "xterm").env_remove("PROMPT_COMMAND");
    command.env("PATH", path_with_ckpt());
    Process::start_at(pty, &mut command)
}

fn path_with_ckpt() -> String {
    let own = ckpt_tests::target_dir();
    format!("{}:{}", own.display(), std::env::var("PATH").unwrap_or_default())
}

const BASH: [&str; 5] = ["bash", "--norc", "--noprofile", "--noediting", "-i"];

/// Restores in the foreground, at a terminal.
fn restore_at(sandbox: &Sandbox, pty: &Pty, id: &str) -> Process {
    let mut command = sandbox.command(["restore", id]);
    Process::start_at(pty, &mut command)
}

/// The shell has its variables, its background job, and rules over its terminal.
fn check_shell(pty: &mut Pty, size: &str) {
    pty.write("echo $((x + 1))\n");
    pty.expect("\n42\r\n");
    pty.write("jobs\n");
    pty.expect("Running");
    pty.write("stty size\n");
    pty.expect(size);
    pty.expect("ready-0> ");
    pty.write("cat\n");
    pty.write("echoed\n");
    pty.expect("echoed\r\nechoed\r\n");
    pty.write("\x03");
    pty.expect("ready-130> ");
    pty.write("cat\n");
    pty.write("again\n");
    pty.expect("again\r\nagain\r\n");
    pty.write("\x1a");
    pty.expect("ready-148> ");
    pty.write("kill -9 %+; wait %+; kill %1; wait %1\n");
    pty.expect("ready-143> ");
    pty.drain();
}

#[test]
fn a_shell_comes_back_at_another_terminal() {
    isolated(|sandbox| {
        let mut pty = Pty::new(24, 80);
        let mut bash = shell(sandbox, &pty, &BASH);
        pty.expect("ready-0> ");
        pty.write("x=41; sleep 2000 &\n");
        pty.expect("ready-0> ");
        sandbox.attach(bash.pid(), "shell");
        let id = sandbox.save("shell");
        pty.write("echo still $x\n");
        pty.expect("\nstill 41\r\n");
        bash.kill();
        drop(pty);

        for _ in 0..2 {
            let mut pty = Pty::new(30, 90);
            let mut restored = restore_at(sandbox, &pty, &id);
            check_shell(&mut pty, "30 90");
            pty.write("exit 7\n");
            assert_eq!(restored.wait().code(), Some(7));
        }
    });
}

#[test]
fn a_shell_within_a_shell() {
    isolated(|sandbox| {
        let mut pty = Pty::new(24, 80);
        let _outer = shell(sandbox, &pty, &BASH);
        pty.expect("ready-0> ");
        pty.write("ckpt run --name inner -- bash --norc --noprofile --noediting -i\n");
        pty.expect("ready-0> ");
        pty.write("x=41; sleep 2000 &\n");
        pty.expect("ready-0> ");
        let id = sandbox.ckpt(["save", "inner", "--stop"]).done();
        pty.expect("ready-137> ");
        pty.write("x=0\n");
        pty.expect("ready-0> ");
        pty.write(&format!("ckpt restore {id}\n"));
        check_shell(&mut pty, "24 80");
        pty.write("exit 9\n");
        pty.expect("ready-9> ");
        // The outer shell has its terminal again.
        pty.write("cat\n");
        pty.write("echoed\n");
        pty.expect("echoed\r\nechoed\r\n");
        pty.write("\x03");
        pty.expect("ready-130> ");
        pty.write("echo $x\n");
        pty.expect("\n0\r\n");
    });
}

#[test]
fn an_editor_in_raw_mode() {
    isolated(|sandbox| {
        let file = sandbox.dir().join("text");
        let mut pty = Pty::new(24, 80);
        let name = file.to_str().expect("a path");
        let line = ["vim.tiny", "-u", "NONE", "-i", "NONE", "-n", name];
        let mut vim = shell(sandbox, &pty, &line);
        pty.expect("text");
        pty.write("ifirst line\r");
        pty.expect("first line");
        sandbox.attach(vim.pid(), "vim");
        let id = save_when_quiet(sandbox, &mut pty, "vim");
        vim.kill();
        drop(pty);

        let mut pty = Pty::new(40, 100);
        let before = pty.settings();
        assert!(before.local_flags.contains(LocalFlags::ICANON));
        let mut restored = restore_at(sandbox, &pty, &id);
        // It draws its window again, on a blank terminal.
        pty.expect("first line");
        assert!(!pty.settings().local_flags.contains(LocalFlags::ICANON));
        pty.write("second line\x1b:wq\r");
        assert_eq!(restored.wait().code(), Some(0));
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), "first line\nsecond line\n");
        assert!(pty.settings().local_flags.contains(LocalFlags::ICANON));
    });
}

fn save_when_quiet(sandbox: &Sandbox, pty: &mut Pty, job: &str) -> String {
    pty.drain();
    sandbox.save(job)
}

#[test]
fn a_stopped_program_stops_its_restoring_command() {
    isolated(|sandbox| {
        let mut pty = Pty::new(24, 80);
        let outer = shell(sandbox, &pty, &BASH);
        pty.expect("ready-0> ");
        // A group of its own, as a shell gives it: not that of ckpt.
        pty.write(
            "python3 -c 'import time; print(\"be\" + \"gun\"); [time.sleep(0.01) for _ in iter(int, 1)]'\n",
        );
        pty.expect("begun\r\n");
        let pid = until("the shell's child", || child_of(outer.pid()));
        pty.wait_for_foreground(pid);
        sandbox.attach(pid, "python");
        let id = sandbox.ckpt(["save", "python", "--stop"]).done();
        pty.expect("ready-137> ");
        pty.write(&format!("ckpt restore {id}\n"));
        pty.wait_for_foreground(pid);
        pty.write("\x1a");
        pty.expect("ready-147> ");
        pty.write("fg\n");
        pty.wait_for_foreground(pid);
        pty.write("\x03");
        pty.expect("KeyboardInterrupt");
        pty.expect("ready-130> ");
    });
}

fn child_of(pid: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

#[test]
fn a_terminal_multiplexer_with_its_shells() {
    isolated(|sandbox| {
        let socket = sandbox.dir().join("tmux");
        let tmux = |args: &[&str]| {
            let mut command = Command::new("tmux");
            command.arg("-S").arg(&socket).args(["-f", "/dev/null"]).args(args);
            command.env("PS1", PROMPT).env("TERM", "xterm").env_remove("TMUX").current_dir("/");
            let output = command.output().expect("tmux; ci/setup installs it");
            assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let shown = |pane: &str, text: &str| {
            until(&format!("pane {pane} shows {text}"), || {
                tmux(&["capture-pane", "-p", "-t", pane]).contains(text).then_some(())
            });
        };
        // The shell that runs it would not pass the variable on.
        let bash = format!("PS1='{PROMPT}' {}", BASH.join(" "));
        tmux(&["new-session", "-d", "-s", "s", "-x", "80", "-y", "24", &bash]);
        tmux(&["split-window", "-t", "s", &bash]);
        for (pane, value) in [("s:0.0", "41"), ("s:0.1", "51")] {
            shown(pane, "ready-0>");
            tmux(&["send-keys", "-t", pane, &format!("x={value}; echo set-$x"), "Enter"]);
            shown(pane, &format!("set-{value}"));
        }
        let server: i32 = tmux(&["display-message", "-p", "#{pid}"]).trim().parse().expect("a pid");
        sandbox.attach(server, "tmux");
        let id = sandbox.ckpt(["save", "tmux", "--stop"]).done();
        until("the server is gone", || (!Path::new(&format!("/proc/{server}")).exists()).then_some(()));
        let restored = sandbox.restore(&id);
        for (pane, value) in [("s:0.0", "42"), ("s:0.1", "52")] {
            tmux(&["send-keys", "-t", pane, "echo is-$((x + 1))", "Enter"]);
            shown(pane, &format!("is-{value}"));
            // Not before it is in the foreground.
            tmux(&["send-keys", "-t", pane, "sh -c 'echo runs-$((6 * 7)); exec cat'", "Enter"]);
            shown(pane, "runs-42");
            tmux(&["send-keys", "-t", pane, "C-c"]);
            shown(pane, "ready-130>");
        }
        tmux(&["kill-server"]);
        restored.wait_gone();
    });
}

#[test]
fn unread_output_is_refused_and_stays() {
    isolated(|sandbox| {
        let go = sandbox.dir().join("go");
        let verdict = sandbox.dir().join("verdict");
        let program = format!(
            "import os, pty, time\n\
             master, slave = pty.openpty()\n\
             os.write(slave, b'unread')\n\
             open({verdict:?}, 'w').write('ready')\n\
             while not os.path.exists({go:?}): time.sleep(0.01)\n\
             open({verdict:?}, 'w').write(os.read(master, 100).decode())\n\
             time.sleep(1000)\n"
        );
        let told = |text: &str| {
            until(text, || (std::fs::read_to_string(&verdict).ok()? == text).then_some(()));
        };
        let python = Process::start(Command::new("python3").args(["-c", &program]));
        told("ready");
        sandbox.attach(python.pid(), "unread");
        sandbox.ckpt(["save", "unread"]).refused(1, &["6 bytes", "/dev/pts/", "save again"]);
        std::fs::write(&go, "").expect("a file");
        told("unread");
        sandbox.save("unread");
    });
}
