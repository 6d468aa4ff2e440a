//! `hydrant doctor`: opens a data directory, reads every batch in it and says how it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::CliError;
use crate::base::clock::RealClock;
use crate::base::shutdown::Shutdown;
use crate::coordinator::group::GroupConfig;
use crate::engine::embedded::{Embedded, EmbeddedOptions};
use crate::log::layout::DataDir;

/// Options of `hydrant doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Folder of the log and the store; no server may be using it.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// Throw the store away and rebuild it from the log.
    #[arg(long)]
    rebuild: bool,
}

/// Checks a folder, after throwing its store away if asked.
///
/// # Errors
/// When the folder is in use, cannot be opened, or has damaged partitions.
#[allow(clippy::print_stdout, reason = "the command prints its findings")]
pub async fn run(args: DoctorArgs) -> Result<(), CliError> {
    if !args.data_dir.join("log").is_dir() {
        return Err(format!("{} is no data directory", args.data_dir.display()).into());
    }
    if args.rebuild {
        let locked = DataDir::open(&args.data_dir)?;
        if locked.store_dir().is_dir() {
            std::fs::remove_dir_all(locked.store_dir())?;
        }
        println!("store removed, rebuilding it from the log");
    }
    crate::telemetry::start(None)?;
    let shutdown = Shutdown::new();
    let options = EmbeddedOptions {
        data_dir: args.data_dir.clone(),
        settings: Vec::new(),
        groups: GroupConfig::default(),
        janitor_interval: Duration::from_secs(3600),
        clock: Arc::new(RealClock),
    };
    let embedded = Embedded::open(options, shutdown.clone()).await?;
    let damaged = tokio::task::block_in_place(|| embedded.verify());
    for finding in &damaged {
        println!("damaged: {finding}");
    }
    let status = embedded.status();
    println!("topics: {}", status.topics);
    println!("partitions: {} ({} offline)", status.partitions, status.partitions_offline);
    println!("log: {} bytes", status.log_bytes);
    println!("groups: {}", status.groups);
    shutdown.stop();
    shutdown.drained().await;
    embedded.close();
    if status.partitions_offline > 0 || !damaged.is_empty() {
        return Err("some partitions are damaged, see above".into());
    }
    println!("ok");
    Ok(())
}
