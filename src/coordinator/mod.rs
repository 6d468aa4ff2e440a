//! The coordinators: pure state machines that decide, and never act.
//!
//! A coordinator takes an event and the time, changes its state and returns effects; the broker
//! performs them.
//! Nothing here does I/O, spawns a task, reads a clock or makes a random value, so a simulation
//! can run a week of a group's life in a millisecond.

pub mod group;
