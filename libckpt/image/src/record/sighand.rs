use super::SighandId;
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// A table of signal actions.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SighandV1 {
    /// Its id.
    pub id: SighandId,
    /// The actions of signals 1 to 64, the kernel's own layout.
    pub actions: Vec<SigActionV1>,
}

/// `struct kernel_sigaction`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SigActionV1 {
    /// Handler; 0 is SIG_DFL, 1 is SIG_IGN.
    pub handler: u64,
    /// SA_*.
    pub flags: u64,
    /// Restorer.
    pub restorer: u64,
    /// Signals blocked in the handler.
    pub mask: u64,
}

/// A queued signal: the 128 bytes of the kernel's `siginfo_t`.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct SigInfo(pub Vec<u8>);
