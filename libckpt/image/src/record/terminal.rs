use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A terminal, as an open file description of one of its ends.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TerminalEndV1 {
    /// The path that it was opened by, `/dev/tty` among them.
    pub path: Vec<u8>,
    /// Which end of what.
    pub side: TerminalSideV1,
    /// The terminal's state; on one description of each terminal only.
    pub state: Option<TerminalV1>,
}

/// Which end of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub enum TerminalSideV1 {
    /// The master of /dev/pts/N.
    Master {
        /// N.
        index: u32,
    },
    /// /dev/pts/N, whose master is in the job.
    Slave {
        /// N.
        index: u32,
    },
    /// A terminal that has been hung up: reads find its end, writes fail with EIO.
    HungUp,
    /// The terminal outside the job that it was started at. That of the restoring command takes its place.
    Outside {
        /// 0, 1 or 2: the descriptor that it is, or that stood for the same terminal.
        number: u32,
        /// It was the descriptor of that number itself: then whatever the restoring command has there takes its place.
        standing: bool,
    },
}

/// What a terminal is set to, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TerminalV1 {
    /// Settings.
    pub termios: TermiosV1,
    /// `struct winsize`: rows, columns, and both in pixels.
    pub window: (u16, u16, u16, u16),
    /// The session whose controlling terminal it is; 0: none of the job.
    pub session: i32,
    /// The foreground process group; 0 without a session, negative when there is none.
    pub foreground: i32,
    /// What a pseudo terminal of the job's has besides.
    pub pair: Option<TerminalPairV1>,
}

/// What the master of a pseudo terminal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct TerminalPairV1 {
    /// TIOCGPTLCK: the slave cannot be opened yet.
    pub locked: bool,
    /// TIOCGPKT: packet mode.
    pub packets: bool,
    /// TIOCGEXCL of the master and of the slave.
    pub exclusive: (bool, bool),
    /// All descriptions of the slave have been closed after there was one.
    pub slave_closed: bool,
    /// User and group of /dev/pts/N.
    pub owner: (u32, u32),
    /// Type and permission bits of /dev/pts/N.
    pub mode: u32,
}

/// `struct termios2`.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TermiosV1 {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    /// Control characters.
    pub cc: Vec<u8>,
    /// Bits per second.
    pub ispeed: u32,
    /// Bits per second.
    pub ospeed: u32,
}
