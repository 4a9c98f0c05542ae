//! Terminals.
use super::Answer::*;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("pseudo terminals whose master is in the job (tmux, script), both ends, under their numbers", Saved, "the numbers of /dev/pts must be free at restore").criu("saved").dmtcp("saved").holds(&["FileKindV1::Terminal"]),
    row("their settings, window size, packet mode, lock, exclusive mode, owner and mode of /dev/pts/N", Saved, ""),
    row("the session that a terminal controls, its foreground process group, /dev/tty", Saved, "a process that has let go of its session's terminal (TIOCNOTTY) has it again").criu("saved"),
    row("a slave whose master is closed, a master whose slave is closed or was never opened", Saved, ""),
    row("input or output that waits unread in a terminal of the job's", Refused, "the kernel shows it only to who takes it; save again when it has been read. A line that is typed but not ended, and output held back by ^S, are not seen, and lost"),
    row("the terminal that the job was started at, also as /dev/tty and under numbers other than 0, 1 and 2", Changed, "the restoring command's terminal takes its place: with the job's settings and foreground group if job and command are in the foreground, with its own window size. Where descriptor 0, 1 or 2 of the command is no terminal, that takes the place of the job's; `--detach` gives /dev/null").criu("with an option"),
    row("a session that the job leads at a terminal outside", Changed, "its processes join the restoring command's session: a terminal has one").criu("with an option"),
    row("consoles and virtual terminals (/dev/console, /dev/tty1)", Saved, "opened again by name, with the settings that they have then").criu("saved"),
    row("another terminal outside the job", Refused, "as descriptor 0, 1 or 2: as the one that the job was started at").criu("with an option"),
    row("a line discipline other than that of terminals (PPP, SLIP)", Refused, ""),
];
