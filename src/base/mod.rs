//! Layer 0: what every other module may use and what uses nothing of ours.
//!
//! Identifiers, time, limits, shutdown, and what waiting and counting need. Nothing here
//! knows of a log, a group or a socket.

pub mod clock;
pub mod ids;
pub mod json;
pub mod limits;
pub mod registered;
pub mod sharded;
pub mod shutdown;
