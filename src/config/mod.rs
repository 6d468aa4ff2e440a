//! Configuration: flags over environment over file over defaults. Only this module reads the
//! environment.
//!
//! Every key can be set in three ways with one meaning: `--data-dir`, `HYDRANT_DATA_DIR`, and
//! `data_dir` in the TOML file that `--config` names. Unknown keys in the file are errors.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// What can be configured, with every value in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the log and the store.
    pub data_dir: PathBuf,
    /// Address of the HTTP door.
    pub http_addr: String,
    /// Address of the Kafka door.
    pub kafka_addr: String,
    /// Address that Kafka clients are told to use; the bound one if absent.
    pub kafka_advertised: Option<String>,
    /// URL of the HTTP door in links, whatever requests say; what requests say if absent.
    pub http_advertised: Option<String>,
    /// Which `Forwarded` and `X-Forwarded-*` headers are believed.
    pub http_forwarded: HttpForwarded,
    /// Pack answers for clients that accept it.
    pub http_compression: bool,
    /// Requests a second that one client may send; no limit if absent.
    pub http_rate_limit: Option<NonZeroU32>,
    /// HTTP connections that one client may have open; no limit if absent.
    pub http_connections_per_client: Option<NonZeroUsize>,
    /// Create topics when metadata of an unknown one is asked for.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator named no number.
    pub num_partitions: i32,
    /// How long the first rebalance of an empty group waits for company, in ms.
    pub group_initial_rebalance_delay_ms: i32,
    /// Shortest session timeout that a group member may ask for, in ms.
    pub group_min_session_timeout_ms: i32,
    /// How long committed offsets outlive the group's last member, in min.
    pub offsets_retention_minutes: i32,
    /// How long an HTTP consumer instance lives without a request, in ms.
    pub consumer_instance_timeout_ms: i64,
    /// Time between rounds of retention and compaction, in ms.
    pub retention_check_interval_ms: u64,
    /// Time between pings on an idle live stream, in s.
    pub stream_heartbeat_s: u64,
    /// Longest life of one live stream, in s.
    pub stream_max_age_s: u64,
    /// Live streams that one address may have open, 0 for any number; 50 for all but loopback if
    /// absent.
    pub stream_max_per_ip: Option<usize>,
    /// How long a client may take no byte of an answer before it is given up, in s.
    pub http_write_timeout_s: u64,
    /// Origins that browsers may call from; `*` allows all. A list, or one text with commas.
    #[serde(deserialize_with = "list_or_text")]
    pub cors_origins: Vec<String>,
    /// Records of one v3 produce batch (`records:batch`).
    pub produce_batch_entries_max: usize,
    /// How long a shutdown may take, in s.
    pub drain_timeout_s: u64,
    /// Where to export traces by OTLP over HTTP; nowhere if absent.
    pub otlp_endpoint: Option<String>,
    /// Threads of the reactor; one a core, and two at least, if absent.
    pub worker_threads: Option<usize>,
}

/// Which headers of proxies are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HttpForwarded {
    /// None.
    Ignore,
    /// Those that say where the server is, in links to it.
    Links,
    /// Also those that say who the client is, in limits by client.
    All,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            http_addr: "127.0.0.1:8082".to_owned(),
            kafka_addr: "127.0.0.1:9092".to_owned(),
            kafka_advertised: None,
            http_advertised: None,
            http_forwarded: HttpForwarded::Links,
            http_compression: true,
            http_rate_limit: None,
            http_connections_per_client: None,
            auto_create_topics: false,
            num_partitions: 4,
            group_initial_rebalance_delay_ms: 0,
            group_min_session_timeout_ms: 6000,
            offsets_retention_minutes: 10_080,
            consumer_instance_timeout_ms: 300_000,
            retention_check_interval_ms: 30_000,
            stream_heartbeat_s: 15,
            stream_max_age_s: 900,
            stream_max_per_ip: None,
            http_write_timeout_s: 30,
            cors_origins: Vec::new(),
            produce_batch_entries_max: 1000,
            drain_timeout_s: 30,
            otlp_endpoint: None,
            worker_threads: None,
        }
    }
}

/// The flags of `serve`. An absent flag leaves the value to environment, file and default.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct ConfigFlags {
    /// TOML file with the same keys as the flags, in `snake_case`.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Folder of the log and the store [default: ./data].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTP door; port 0 takes a free one [default: 127.0.0.1:8082].
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_addr: Option<String>,
    /// Address of the Kafka door; port 0 takes a free one [default: 127.0.0.1:9092].
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_addr: Option<String>,
    /// Address that Kafka clients are told to use [default: the bound one].
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_advertised: Option<String>,
    /// URL of the HTTP door in links to itself [default: as requests and proxies name it].
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_advertised: Option<String>,
    /// Which Forwarded and X-Forwarded headers are believed [default: links].
    #[arg(long, value_name = "WHICH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_forwarded: Option<HttpForwarded>,
    /// Pack answers for clients that accept gzip or zstd [default: true].
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_compression: Option<bool>,
    /// Requests a second that one client may send [default: no limit].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_rate_limit: Option<NonZeroU32>,
    /// HTTP connections that one client may have open [default: no limit].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_connections_per_client: Option<NonZeroUsize>,
    /// Create topics when metadata of an unknown one is asked for [default: false].
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_create_topics: Option<bool>,
    /// Partitions of a topic whose creator named no number [default: 4].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_partitions: Option<i32>,
    /// How long the first rebalance of an empty group waits for company [default: 0].
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_initial_rebalance_delay_ms: Option<i32>,
    /// Shortest session timeout that a group member may ask for [default: 6000].
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_min_session_timeout_ms: Option<i32>,
    /// How long committed offsets outlive the group's last member [default: 10080, 7 days].
    #[arg(long, value_name = "MIN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offsets_retention_minutes: Option<i32>,
    /// How long an HTTP consumer instance lives without a request [default: 300000].
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_instance_timeout_ms: Option<i64>,
    /// Time between rounds of retention and compaction [default: 30000].
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_check_interval_ms: Option<u64>,
    /// Time between pings on an idle live stream [default: 15].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_heartbeat_s: Option<u64>,
    /// Longest life of one live stream [default: 900].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_max_age_s: Option<u64>,
    /// Live streams that one address may have open, 0 for any number [default: 50, loopback: any].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_max_per_ip: Option<usize>,
    /// How long a client may take no byte of an answer before it is given up [default: 30].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_write_timeout_s: Option<u64>,
    /// Origins that browsers may call from, with commas; `*` allows all [default: none].
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cors_origins: Vec<String>,
    /// Records of one v3 produce batch, at most 10000 [default: 1000].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub produce_batch_entries_max: Option<usize>,
    /// How long a shutdown may take [default: 30].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout_s: Option<u64>,
    /// Where to export traces by OTLP over HTTP [default: nowhere].
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Threads of the reactor [default: one a core, and two at least].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_threads: Option<usize>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value cannot be read or a key is unknown.
    #[error("configuration: {0}")]
    Invalid(#[from] Box<figment::Error>),
    /// The file that `--config` names is not there.
    #[error("configuration file {} cannot be read", .0.display())]
    NoFile(PathBuf),
    /// A value makes no sense.
    #[error("configuration: {name} '{value}' {reason}")]
    Nonsense {
        /// The key.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The standard variable that also turns on trace export.
const OTEL_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

impl Config {
    /// Puts flags, environment, file and defaults together.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and where its value came from.
    pub fn load(flags: &ConfigFlags) -> Result<Self, ConfigError> {
        let figment = Figment::from(Serialized::defaults(Self::default()));
        let figment = with_file(figment, flags.config.as_deref())?;
        let config: Self = figment
            .merge(Env::raw().only(&[OTEL_ENDPOINT]).map(|_| "otlp_endpoint".into()))
            .merge(Env::prefixed("HYDRANT_").filter(|key| is_key(key.as_str())))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let most = crate::base::limits::PARTITIONS_PER_TOPIC_MAX;
        if !(1..=most).contains(&self.num_partitions) {
            return Err(ConfigError::Nonsense {
                name: "num_partitions",
                value: self.num_partitions.to_string(),
                reason: "is not between 1 and 10000",
            });
        }
        let most = crate::base::limits::HTTP_PRODUCE_BATCH_ENTRIES_MAX;
        if !(1..=most).contains(&self.produce_batch_entries_max) {
            return Err(ConfigError::Nonsense {
                name: "produce_batch_entries_max",
                value: self.produce_batch_entries_max.to_string(),
                reason: "is not between 1 and 10000",
            });
        }
        if self.offsets_retention_minutes < 1 {
            return Err(ConfigError::Nonsense {
                name: "offsets_retention_minutes",
                value: self.offsets_retention_minutes.to_string(),
                reason: "is not between 1 and 2147483647",
            });
        }
        if !(1..=60).contains(&self.stream_heartbeat_s) {
            return Err(ConfigError::Nonsense {
                name: "stream_heartbeat_s",
                value: self.stream_heartbeat_s.to_string(),
                reason: "is not between 1 and 60",
            });
        }
        if let Some(url) = &self.http_advertised {
            let uri = url.parse::<http::Uri>().ok();
            let is_base = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()
            });
            if !is_base {
                return Err(ConfigError::Nonsense {
                    name: "http_advertised",
                    value: url.clone(),
                    reason: "is not an http or https URL without a query",
                });
            }
        }
        Ok(())
    }
}

fn with_file(figment: Figment, file: Option<&Path>) -> Result<Figment, ConfigError> {
    match file {
        None => Ok(figment),
        Some(path) if path.is_file() => Ok(figment.merge(Toml::file_exact(path))),
        Some(path) => Err(ConfigError::NoFile(path.to_path_buf())),
    }
}

/// The environment has no lists: there, and wherever it is handy, commas make one.
fn list_or_text<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ListOrText {
        List(Vec<String>),
        Text(String),
    }
    Ok(match ListOrText::deserialize(source)? {
        ListOrText::List(list) => list,
        ListOrText::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
    })
}

/// Other variables with our prefix, such as those of scripts, are not ours to judge.
fn is_key(key: &str) -> bool {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    defaults.get(key.to_ascii_lowercase()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_unknown_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hydrant.toml");
        std::fs::write(&file, "num_partitions = 8\nauto_create_topics = true\n").unwrap();
        let flags = ConfigFlags {
            config: Some(file.clone()),
            num_partitions: Some(2),
            ..ConfigFlags::default()
        };
        let config = Config::load(&flags).unwrap();
        assert_eq!((config.num_partitions, config.auto_create_topics), (2, true));
        std::fs::write(&file, "num_partitons = 8\n").unwrap();
        let refused = Config::load(&flags).unwrap_err().to_string();
        assert!(refused.contains("num_partitons"), "{refused}");
        let missing = ConfigFlags { config: Some("no.toml".into()), ..ConfigFlags::default() };
        assert!(matches!(Config::load(&missing), Err(ConfigError::NoFile(_))));
        let nonsense = ConfigFlags { num_partitions: Some(0), ..ConfigFlags::default() };
        assert!(Config::load(&nonsense).unwrap_err().to_string().contains("num_partitions '0'"));
        for minutes in [0, -1] {
            let flags =
                ConfigFlags { offsets_retention_minutes: Some(minutes), ..ConfigFlags::default() };
            let refused = Config::load(&flags).unwrap_err().to_string();
            let named = format!("offsets_retention_minutes '{minutes}'");
            assert!(refused.contains(&named), "{refused}");
        }
        for url in ["example.org:80", "ftp://x", "http://x/?a=1"] {
            let flags =
                ConfigFlags { http_advertised: Some(url.to_owned()), ..ConfigFlags::default() };
            let refused = Config::load(&flags).unwrap_err().to_string();
            assert!(refused.contains(&format!("http_advertised '{url}'")), "{refused}");
        }
    }
}
