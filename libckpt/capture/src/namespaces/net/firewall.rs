//! nftables of a network namespace, as nft(8) writes them.
use super::refused;
use crate::error::CaptureResult;
use ckpt_sys::nftables;
use nix::errno::Errno;
use std::process::Command;

/// NFPROTO_* that nft(8) knows.
const FAMILIES: [(u8, &str); 6] =
    [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];
/// What ckpt's own tables begin with, which hold connections still.
const OWN: &str = "ckpt-";

/// All tables of this process's network namespace; empty if there are none.
pub(super) fn ruleset(root: i32) -> CaptureResult<String> {
    let tables = match nftables::tables() {
        // A kernel without them.
        Err(error)
            if matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EINVAL)) =>
        {
            return Ok(String::new());
        }
        tables => tables?,
    };
    let mut ruleset = String::new();
    for (family, name) in tables.iter().filter(|(_, name)| !name.starts_with(OWN)) {
        let family = FAMILIES.iter().find(|(number, _)| number == family).map_or("ip", |(_, family)| family);
        let object = format!("nftables table {family} {name} of its network namespace");
        let ran = Command::new("nft").args(["list", "table", family, name]).output();
        match ran {
            Ok(ran) if ran.status.success() => ruleset += &String::from_utf8_lossy(&ran.stdout),
            Ok(ran) => {
                let reason = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
                return Err(refused(root, object, &reason, "Take the table away (nft delete table)".into()));
            }
            Err(error) => {
                let reason = format!("nft cannot be run: {error}");
                return Err(refused(root, object, &reason, "Install nftables where the job runs".into()));
            }
        }
    }
    Ok(ruleset)
}
