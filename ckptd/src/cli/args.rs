//! Commands and options, as docs and scripts know them.
use crate::effort::EffortChoice;
use crate::failure::Outcome;
use crate::keep::{self, Keep};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Keeps any unmodified Linux program alive: saves it while it runs, and brings it back as it was.
#[derive(Debug, Parser)]
#[command(
    name = "ckpt",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The store's directory [default: /var/lib/ckpt for root, $XDG_STATE_HOME/ckpt for others]
    #[arg(long, global = true, value_name = "DIR", env = "CKPT_STORE", hide_env_values = true)]
    pub(crate) store: Option<PathBuf>,
    /// Print JSON: one object, or one a line for lists
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Tell more; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a program under protection, wait for it, and exit with its status
    Run(Run),
    /// Protect a running process tree
    Attach(Attach),
    /// Take a checkpoint, and print its id
    Save(Save),
    /// List jobs and checkpoints, newest last
    List {
        /// Only this job
        job: Option<String>,
    },
    /// Show what an image holds
    Show {
        /// The checkpoint
        id: String,
    },
    /// Bring a checkpoint back
    Restore(Restore),
    /// Turn a chain of incremental checkpoints into one full checkpoint
    Merge {
        /// A checkpoint, or a job for its newest one
        #[arg(value_name = "JOB|ID")]
        target: String,
    },
    /// Read and check every byte of an image, or of the whole store
    Verify {
        /// Only this checkpoint
        id: Option<String>,
    },
    /// Delete a checkpoint; if others need it, it is merged into them first
    Rm {
        /// The checkpoint
        id: String,
    },
    /// Delete old checkpoints of a job, but never its newest
    Prune {
        /// The job
        job: String,
        #[command(flatten)]
        keep: Kept,
    },
    /// Write a checkpoint with all that it needs to one file
    Export {
        /// The checkpoint
        id: String,
        /// The file; - is standard output
        file: PathBuf,
    },
    /// Read a checkpoint from a file that export wrote
    Import {
        /// The file; - is standard input
        file: PathBuf,
    },
    /// Say what this kernel and these privileges allow; with a pid: whether that process can be saved
    Check {
        /// The process
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        pid: Option<i32>,
        /// Print what a checkpoint keeps of every kind of kernel object, as docs/support.md
        #[arg(long, conflicts_with = "pid")]
        support: bool,
    },
    /// Show the main job on a sample program, narrated, in under a minute
    Demo,
    /// Run the daemon in the foreground
    Daemon {
        /// Leave the caller behind once the socket listens
        #[arg(long, hide = true)]
        background: bool,
        /// Memory that a save may take for itself, but for what it copies in the pause [default: an eighth of what is available, 256M to 4G]
        #[arg(long, value_name = "SIZE", env = "CKPT_MEMORY", hide_env_values = true)]
        memory: Option<String>,
        /// What a save spends on making its checkpoint small
        #[arg(
            long,
            value_name = "EFFORT",
            env = "CKPT_EFFORT",
            hide_env_values = true,
            default_value = "auto"
        )]
        effort: EffortChoice,
    },
    #[command(name = "__capture", hide = true)]
    CaptureWorker,
    #[command(name = "__clean", hide = true)]
    CleanWorker,
    #[command(name = "__maintain", hide = true)]
    MaintainWorker,
    #[command(name = "__restore", hide = true)]
    RestoreWorker,
    #[command(name = "__keep", hide = true)]
    Keeper,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) protection: Protection,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The root of the process tree
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    #[command(flatten)]
    pub(crate) protection: Protection,
}

/// Which checkpoints of a job are kept: those that one of the options is for.
#[derive(Debug, Args)]
#[group(id = "kept", multiple = true)]
pub(crate) struct Kept {
    /// Keep the newest N checkpoints
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// Keep checkpoints that are no older: 90s, 30m, 12h, 7d
    #[arg(long, value_name = "DUR")]
    pub(crate) keep_for: Option<String>,
}

impl Kept {
    /// What they say.
    ///
    /// # Errors
    /// Wrong usage.
    pub(crate) fn parse(&self) -> Outcome<Keep> {
        keep::parse(self.keep.map(|n| n.to_string()).as_deref(), self.keep_for.as_deref())
    }
}

/// How a job is protected.
#[derive(Debug, Args)]
pub(crate) struct Protection {
    /// The job's name [default: the program's]
    #[arg(long, value_name = "JOB")]
    pub(crate) name: Option<String>,
    /// Take a checkpoint every so often: 500ms, 10s, 5m, 1h
    #[arg(long, value_name = "DUR")]
    pub(crate) every: Option<String>,
    #[command(flatten)]
    pub(crate) kept: Kept,
    /// Save this file or directory with the job (comes with a later release)
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Save {
    /// A job, or the pid of a process; one that is not protected yet becomes a job
    #[arg(value_name = "JOB|PID")]
    pub(crate) target: String,
    /// Take a full checkpoint
    #[arg(long)]
    pub(crate) full: bool,
    /// End the job once it is saved
    #[arg(long)]
    pub(crate) stop: bool,
    /// What becomes of TCP connections to the outside
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) tcp: SaveTcp,
    /// What becomes of UNIX sockets that are connected to processes outside
    #[arg(long, value_enum, default_value = "refuse")]
    pub(crate) unix_peer: UnixPeer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnixPeer {
    /// The job is not saved while it has any
    Refuse,
    /// Restored, the program finds them closed by the other side
    Eof,
    /// Restored, they are connected anew to the same names
    Reconnect,
}

impl From<UnixPeer> for ckpt_capture::UnixPeers {
    fn from(choice: UnixPeer) -> Self {
        match choice {
            UnixPeer::Refuse => Self::Refuse,
            UnixPeer::Eof => Self::Eof,
            UnixPeer::Reconnect => Self::Reconnect,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveTcp {
    /// With --stop they are held still until the checkpoint is restored
    Keep,
    /// With --stop they end
    Close,
    /// The job is not saved while it has any
    Refuse,
}

impl From<SaveTcp> for ckpt_capture::OutsideConnections {
    fn from(choice: SaveTcp) -> Self {
        match choice {
            SaveTcp::Keep => Self::Keep,
            SaveTcp::Close => Self::Close,
            SaveTcp::Refuse => Self::Refuse,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A checkpoint, or a job for its newest one
    #[arg(value_name = "ID|JOB")]
    pub(crate) target: String,
    /// Leave it running, and print its pid
    #[arg(long)]
    pub(crate) detach: bool,
    /// Start at once; memory comes as it is touched, and all the rest meanwhile
    #[arg(long)]
    pub(crate) lazy: bool,
    /// Which pids it gets
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) pid: PidChoice,
    /// What if files are not what they were at the checkpoint [default: data may have changed, code may not]
    #[arg(long, value_enum)]
    pub(crate) files: Option<FilesChoice>,
    /// What becomes of TCP connections to the outside
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) tcp: RestoreTcp,
    /// What becomes of its control groups
    #[arg(long, value_enum, default_value = "restore")]
    pub(crate) cgroups: CgroupsChoice,
    /// Put its control groups below this one: /PATH for all hierarchies, or HIERARCHY:/PATH as in /proc/PID/cgroup (may be repeated)
    #[arg(long, value_name = "[HIERARCHY:]/PATH")]
    pub(crate) cgroup_root: Vec<ckpt_restore::CgroupRoot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupsChoice {
    /// It is in those that it was in; its own that are gone are made again
    Restore,
    /// It is in those of this command
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestoreTcp {
    /// Those that `save --stop` holds still go on, the others are closed
    Keep,
    /// All go on: right only if nothing has gone over them since
    Force,
    /// They are closed by the other side
    Close,
    /// They are broken
    Reset,
}

impl From<RestoreTcp> for ckpt_restore::OutsideConnections {
    fn from(choice: RestoreTcp) -> Self {
        match choice {
            RestoreTcp::Keep => Self::Keep,
            RestoreTcp::Force => Self::Force,
            RestoreTcp::Close => Self::Close,
            RestoreTcp::Reset => Self::Reset,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PidChoice {
    /// The same, in a new PID namespace if they are taken here or the job had its own
    Auto,
    /// The same, among those of the processes that are here
    Same,
    /// The same within a new PID namespace; seen from here, others
    New,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilesChoice {
    /// Bring back those that the checkpoint has the contents of; refuse if others have changed
    Restore,
    /// Refuse if any has changed
    Check,
    /// Leave them as they are, code as well
    Keep,
}

impl From<FilesChoice> for ckpt_restore::ChangedFiles {
    fn from(choice: FilesChoice) -> Self {
        match choice {
            // Those that the checkpoint has the contents of have no name, and nobody else can have changed them.
            FilesChoice::Restore | FilesChoice::Check => Self::Refuse,
            FilesChoice::Keep => Self::Keep,
        }
    }
}
