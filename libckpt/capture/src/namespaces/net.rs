//! Network namespaces: so far those that have nothing but the loopback interface.
use super::sysctls;
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::NetNamespaceV1;
use ckpt_sys::SysError;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Settings that programs and containers change.
const SYSCTLS: [&str; 12] = [
    "net/core/somaxconn",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/ping_group_range",
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv6/bindv6only",
    "net/ipv6/conf/all/disable_ipv6",
];

/// The namespace that this process and process `root` are in.
pub(super) fn capture(root: i32) -> CaptureResult<NetNamespaceV1> {
    let failed = |errno| SysError::new("getifaddrs", "the job's network namespace", errno);
    let addresses: Vec<_> = getifaddrs().map_err(failed)?.collect();
    for address in &addresses {
        check(root, address)?;
    }
    let loopback_up = addresses.iter().any(|address| address.flags.contains(InterfaceFlags::IFF_UP));
    Ok(NetNamespaceV1 { loopback_up, sysctls: sysctls(&SYSCTLS) })
}

fn check(root: i32, address: &InterfaceAddress) -> CaptureResult<()> {
    let name = &address.interface_name;
    // What the kernel sets up in every namespace where the drivers are built in: they are there again, and down.
    let is_up = address.flags.contains(InterfaceFlags::IFF_UP);
    if name != "lo" && is_up {
        return Err(CaptureError::unsupported(
            root,
            format!("network interface {name} of its network namespace"),
            "only the loopback interface of a network namespace can be saved",
            "Save it without a network namespace of its own, or attach the interface after the restore",
        ));
    }
    let Some(socket) = &address.address else { return Ok(()) };
    let is_usual = match (socket.as_sockaddr_in(), socket.as_sockaddr_in6()) {
        (Some(v4), _) => v4.ip() == Ipv4Addr::LOCALHOST,
        (_, Some(v6)) => v6.ip() == Ipv6Addr::LOCALHOST,
        _ => true,
    };
    if is_usual {
        return Ok(());
    }
    let ip = socket.to_string();
    Err(CaptureError::unsupported(
        root,
        format!("address {ip} of network interface {name} of its network namespace"),
        "only the usual addresses of the loopback interface can be saved",
        format!("Take the address away (ip address del {ip} dev {name}), and add it after the restore"),
    ))
}
