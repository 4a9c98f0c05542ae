//! Network namespaces.
use super::set_sysctls;
use crate::error::RestoreResult;
use ckpt_image::record::NetNamespaceV1;
use ckpt_sys::interface;

/// Gives a new network namespace, which this process is in, what it had.
pub(super) fn furnish(net: &NetNamespaceV1) -> RestoreResult<()> {
    if net.loopback_up {
        interface::set_up("lo")?;
    }
    set_sysctls(&net.sysctls);
    Ok(())
}
