//! Network namespaces.
use super::set_sysctls;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::NetNamespaceV1;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::rtnetlink::Table;
use ckpt_sys::{SysError, host_program};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

mod link;
mod tracked;
mod tun;

pub(crate) use tun::{find as find_interface, furnish as furnish_tun};

/// Goes into the namespace that is mounted at `path`.
pub(super) fn join(path: &[u8]) -> Result<(), SysError> {
    let path = Path::new(OsStr::from_bytes(path));
    let name = || format!("network namespace {}", path.display());
    let file = File::open(path).map_err(|error| SysError::new("open", name(), error))?;
    namespace::join(file.as_fd(), &[Namespace::Net])
}

/// Refuses a restore whose network namespace is gone.
pub(super) fn check(net: &NetNamespaceV1) -> RestoreResult<()> {
    let Some(path) = &net.path else { return Ok(()) };
    let path = Path::new(OsStr::from_bytes(path));
    // What is mounted there, not the empty file below it.
    let is_namespace =
        nix::sys::statfs::statfs(path).is_ok_and(|system| system.filesystem_type().0 == NSFS_MAGIC);
    if is_namespace {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(RestoreError::File {
        path: path.display().to_string(),
        reason: "the network namespace that the job was in is not there".into(),
        remedy: format!("Make it (ip netns add {name}), set its interfaces up, and restore again"),
    })
}

/// include/uapi/linux/magic.h
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Gives a new network namespace, which this process is in, what it had. `outer`: the one that the restore was asked for in.
pub(super) fn furnish(net: &NetNamespaceV1, outer: Option<&File>) -> RestoreResult<()> {
    if net.path.is_some() {
        return Ok(());
    }
    link::make(&net.links, outer)?;
    // Before there are addresses: they decide what becomes of them.
    set_sysctls(&net.sysctls);
    for message in &net.addresses {
        made(Table::Addresses.make(&link::without_detection(message)))?;
    }
    for message in &net.neighbours {
        made(Table::Neighbours.make(message))?;
    }
    add_routes(&net.routes)?;
    for message in &net.rules {
        made(Table::Rules.make(message))?;
    }
    load(&net.ruleset)?;
    tracked::make(&net.tracked);
    Ok(())
}

/// Fine, too, if it is there already.
fn made(outcome: Result<(), SysError>) -> Result<(), SysError> {
    match outcome {
        Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(()),
        outcome => outcome,
    }
}

/// A route can be added when there is one to its gateway: as many rounds as it takes.
fn add_routes(routes: &[Vec<u8>]) -> RestoreResult<()> {
    let mut left: Vec<_> = routes.iter().map(|message| link::route(message)).collect();
    while !left.is_empty() {
        let before = left.len();
        let mut failure = None;
        left.retain(|message| match made(Table::Routes.make(message)) {
            Ok(()) => false,
            Err(error) => {
                failure = Some(error);
                true
            }
        });
        if let Some(error) = failure.filter(|_| left.len() == before) {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Loads nftables.
fn load(ruleset: &str) -> RestoreResult<()> {
    if ruleset.is_empty() {
        return Ok(());
    }
    let refused = |reason: String| RestoreError::Machine {
        reason: format!("the job's nftables cannot be loaded: {reason}"),
        remedy: "Install nftables (the program nft)".into(),
    };
    let mut nft = host_program::command("nft");
    let child =
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| refused(error.to_string()))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(ruleset.as_bytes()));
    // It is waited for in any case, and what it says comes first.
    let ran = child.wait_with_output().map_err(|error| refused(error.to_string()))?;
    if !ran.status.success() {
        return Err(refused(String::from_utf8_lossy(&ran.stderr).trim().to_owned()));
    }
    written.map_err(|error| refused(error.to_string()))
}
