//! nftables of a network namespace, as nft(8) writes them.
use super::refused;
use crate::error::CaptureResult;
use ckpt_sys::{host_program, nftables, xfrm, xtables};
use nix::errno::Errno;

/// NFPROTO_* that nft(8) knows.
const FAMILIES: [(u8, &str); 6] =
    [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];
/// What ckpt's own tables begin with, which hold connections still.
const OWN: &str = "ckpt-";

/// All tables of this process's network namespace; empty if there are none.
pub(super) fn ruleset(root: i32) -> CaptureResult<String> {
    check_others(root)?;
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
        let ran = host_program::command("nft").args(["list", "table", family, name]).output();
        match ran {
            Ok(ran) if ran.status.success() => {
                let listed = String::from_utf8_lossy(&ran.stdout);
                if let Some(rule) = listed.lines().find(|rule| is_foreign(rule)) {
                    let reason =
                        format!("nft can list, but not load, a match or target of iptables: {}", rule.trim());
                    let remedy = "Write the rule without it (nft, or iptables with matches that nft has), and save again";
                    return Err(refused(root, object, &reason, remedy.into()));
                }
                ruleset += &listed;
            }
            Ok(ran) => {
                let reason = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
                return Err(refused(root, object, &reason, "Take the table away (nft delete table)".into()));
            }
            Err(error) => {
                let reason = format!("nft cannot be run: {error}");
                return Err(refused(
                    root,
                    object,
                    &reason,
                    "Install nftables (the program nft) on this machine".into(),
                ));
            }
        }
    }
    Ok(ruleset)
}

/// Whether a rule has an extension of iptables that nft(8) has no words for.
fn is_foreign(rule: &str) -> bool {
    // Comments and names are quoted.
    let unquoted: String = rule.split('"').step_by(2).collect();
    ["xt match ", "xt target ", "xt watcher ", "# xt_"].iter().any(|words| unquoted.contains(words))
}

/// Refuses what filters or changes packets and is not of nftables.
fn check_others(root: i32) -> CaptureResult<()> {
    if let Some((program, table)) = xtables::in_use()?.into_iter().next() {
        return Err(refused(
            root,
            format!("{program} table {table} of its network namespace"),
            "it has rules or policies by the kernel's old interface, of which nft does not know",
            format!(
                "Make them with {program}-nft, or empty the table ({program}-legacy -t {table} -F, -X, -P CHAIN ACCEPT), and save again"
            ),
        ));
    }
    let (states, policies) = xfrm::counts()?;
    if states + policies > 0 {
        return Err(refused(
            root,
            format!("IPsec of its network namespace ({states} states, {policies} policies)"),
            "its keys and sequence numbers are shared with the other side",
            "Take it away (ip xfrm state flush, ip xfrm policy flush), save, and set it up again".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn rules_that_nft_cannot_load() {
        assert!(is_foreign("\t\txt match string counter packets 0 bytes 0 drop"));
        assert!(is_foreign("tcp dport 9 xt target \"LOG\""));
        assert!(!is_foreign("tcp dport 9 counter comment \"xt match string\" drop"));
        assert!(!is_foreign("limit rate 5/second counter packets 0 bytes 0 drop"));
    }
}
