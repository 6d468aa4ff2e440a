//! The `hydrant` binary: parses the command line and runs the command.

use std::process::ExitCode;

use clap::Parser;
use hydrant::cli::Cli;

#[allow(clippy::print_stderr, reason = "the last word of a failing command")]
fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hydrant: {error}");
            ExitCode::FAILURE
        }
    }
}
