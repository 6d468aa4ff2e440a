//! Layer 7: the commands of the binary.

pub mod bench;
pub mod doctor;
pub mod serve;
mod server_settings;

use clap::{Parser, Subcommand};

use crate::config::ConfigFlags;

/// What a command fails with: text for a person.
pub type CliError = Box<dyn std::error::Error + Send + Sync>;

/// A Kafka-compatible log with an HTTP door.
#[derive(Debug, Parser)]
#[command(name = "hydrant", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve HTTP and the Kafka protocol on one log.
    Serve(Box<ConfigFlags>),
    /// Measure this server, a peer, or a bare server.
    Bench(Box<bench::BenchArgs>),
    /// Check a data directory, or rebuild its store from the log.
    Doctor(doctor::DoctorArgs),
    /// Print the OpenAPI specification.
    Openapi {
        /// Version of OpenAPI; 3.0 is for tools that cannot read 3.1.
        #[arg(id = "openapi_version", long = "version", default_value = "3.1", value_parser = ["3.1", "3.0"])]
        version: String,
    },
}

impl Cli {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// Text for a person.
    pub fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Serve(flags) => serve::run(&flags),
            Command::Bench(args) => runtime(None)?.block_on(bench::run(*args)),
            Command::Doctor(args) => runtime(None)?.block_on(doctor::run(args)),
            Command::Openapi { version } => print_openapi(&version),
        }
    }
}

/// Builds the reactor. As many threads as cores: more of them only take work from each other, and
/// appends and reads of cached pages, which run on it, seldom wait for the disk (ADR 0003).
fn runtime(worker_threads: Option<usize>) -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads.unwrap_or(cores.max(2)).max(1))
        .thread_name("hydrant")
        .enable_all()
        .build()
}

#[allow(clippy::print_stdout, reason = "the command prints")]
fn print_openapi(version: &str) -> Result<(), CliError> {
    use crate::http::router;
    let text = match version {
        "3.0" => serde_json::to_string_pretty(&router::specification_3_0())?,
        _ => router::specification().to_pretty_json()?,
    };
    println!("{text}");
    Ok(())
}
