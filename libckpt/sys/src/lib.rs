//! Typed Linux interfaces: mechanism without policy.
//!
//! Most of ckpt's `unsafe` is here. Remote system calls ([`inject`]) live here too: the engine works on a process from
//! outside, by running system calls in its stopped threads.
//!
//! Architecture invariant: nothing here knows what a checkpoint is.
pub mod addr;
pub mod arch;
pub mod bpf;
pub mod canonical;
pub mod cgroup;
pub mod clocks;
pub mod conntrack;
pub mod descriptor;
pub mod error;
pub mod ethtool;
pub mod fanotify;
pub mod fate;
pub mod fault;
pub mod fork_cost;
pub mod handover;
pub mod heap;
pub mod host_program;
pub mod huge_pages;
pub mod inet_diag;
pub mod inet_table;
pub mod inject;
pub mod io_uring;
pub mod kcmp;
pub mod late_pages;
pub mod lent_memory;
pub mod memory;
pub mod mount;
pub mod mqueue;
pub mod multicast;
pub mod namespace;
pub mod netlink;
mod netlink_request;
pub mod nftables;
pub mod numa;
pub mod packet_diag;
pub mod packet_ring;
pub mod pagemap;
pub mod pidfd;
pub mod proc;
pub mod ptrace;
pub mod raw;
pub mod reaper;
pub mod rtnetlink;
pub mod sched;
pub mod seccomp;
mod sock_diag;
pub mod sockaddr;
pub mod socket;
pub mod socket_filter;
pub mod spawn;
mod sysv;
pub mod sysv_msg;
pub mod sysv_sem;
pub mod sysv_shm;
pub mod tcp_repair;
pub mod tcp_state;
pub mod terminal;
pub mod tun;
pub mod uffd;
pub mod unix_diag;
pub mod xfrm;
pub mod xtables;

pub use addr::{CodeAddr, RemoteAddr};
pub use error::{SysError, SysResult};
