//! `filter=`: an expression in CEL, the Common Expression Language, over one record.
//!
//! The grammar and its macros are those of the `cel` crate; what a filter may cost is ours. The
//! source is short, the tree is small and shallow ([`compile`]), and evaluation pays for each step
//! and each byte out of a budget for one record ([`eval`]), so nothing that a client writes can
//! keep the server busy.
//!
//! Variables: `key` and the entries of `headers` are text, or bytes if they are none; `value` is
//! JSON if it is, else text, else bytes; `topic`, `partition`, `offset`, `timestamp` (epoch ms).

mod compile;
mod eval;
mod functions;
mod value;

pub(super) use self::compile::{Program, compile};
pub(in crate::http::stream) use self::value::Document;
pub(super) use self::value::Input;
