//! `ckpt`, the command, and `ckptd`, the daemon: one executable.
//!
//! Way through: [`cli`] has one file for each command; those that act on a live job ask the [`daemon`] over the
//! [`protocol`]; the daemon has a [`worker`] process do each capture. The others read the store's files themselves.
mod cli;
mod client;
mod daemon;
mod effort;
mod endpoint;
mod every;
mod failure;
mod home;
mod inside;
mod job_name;
mod keep;
mod logging;
mod memory;
mod pids;
mod protocol;
mod roster;
mod store_dir;
mod support;
mod target;
mod tickets;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
