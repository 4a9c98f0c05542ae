//! The integration tests: one module a capability, each with a subject program of the same name.
mod memory;
mod pending_signals;
mod scheduling;
mod signal_actions;
mod thread_lists;
mod tls;
mod xstate;
