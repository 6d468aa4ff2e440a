pub mod base;
pub mod coordinator;
pub mod engine;
pub mod log;
pub mod store;
pub mod protocol;
