//! What clients say to the daemon and the daemon to its workers, on a UNIX stream socket.
//!
//! One frame is an 8-byte header (two little-endian `u32`: bytes of payload, number of file descriptors), one byte
//! for each group of up to [`frame::FDS_A_MESSAGE`] descriptors (carried with it by `SCM_RIGHTS`), and the payload:
//! JSON in UTF-8, ended by a newline. A client sends one request on a connection and reads one reply.
pub(crate) mod frame;
mod messages;

pub(crate) use messages::*;
