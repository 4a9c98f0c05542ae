use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// setitimer(2): both in µs; `value` 0 is disarmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct ItimerV1 {
    /// Period, µs.
    pub interval_us: u64,
    /// What is left, µs.
    pub value_us: u64,
}

/// timer_create(2).
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
pub struct PosixTimerV1 {
    /// Its id, which the program knows.
    pub id: i32,
    /// Clock.
    pub clock: i32,
    /// SIGEV_* with SIGEV_THREAD_ID.
    pub notify: i32,
    /// Signal.
    pub signo: i32,
    /// Thread that is signalled (SIGEV_THREAD_ID), else 0.
    pub tid: i32,
    /// sigev_value.
    pub sigval: u64,
    /// Period, ns.
    pub interval_ns: u64,
    /// What is left, ns; 0 is disarmed.
    pub value_ns: u64,
    /// Overrun count.
    pub overrun: i32,
}
