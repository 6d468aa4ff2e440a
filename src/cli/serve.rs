//! `hydrant serve`: opens the broker, opens both doors, drains on a signal.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CliError;
use super::server_settings;
use crate::base::clock::{RealClock, SharedClock};
use crate::base::limits;
use crate::base::shutdown::Shutdown;
use crate::config::{Config, ConfigFlags, HttpForwarded};
use crate::consumers::{Consumers, ConsumersOptions};
use crate::coordinator::group::GroupConfig;
use crate::engine::embedded::{Embedded, EmbeddedOptions};
use crate::http::around::rate::RateLimiter;
use crate::http::around::request_id::RequestIds;
use crate::http::body::BodyBudget;
use crate::http::connections::Connections;
use crate::http::link::Forwarded;
use crate::http::server::ServeOptions;
use crate::http::state::{Compression, Inner, Readiness, StreamsPerIp};
use crate::http::stream::StreamHub;
use crate::http::{AppState, HttpMetrics, HttpOptions, StreamOptions, router, server};
use crate::kafka::{self, KafkaMetrics, KafkaOptions};
use crate::telemetry::{self, ProcessMetrics};

/// An idle Kafka connection is closed after this time (`connections.max.idle.ms`).
const KAFKA_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Milliseconds in a minute.
const MINUTE_MS: i64 = 60_000;

/// Serves until a signal; returns after the drain.
///
/// # Errors
/// Configuration, data directory or address that cannot be used.
pub fn run(flags: &ConfigFlags) -> Result<(), CliError> {
    let config = Config::load(flags)?;
    let runtime = super::runtime(config.worker_threads)?;
    let telemetry = {
        // The exporter starts a task.
        let _entered = runtime.enter();
        telemetry::start(config.otlp_endpoint.as_deref())?
    };
    let result = runtime.block_on(serve(config));
    telemetry.shutdown();
    result
}

async fn serve(config: Config) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    let clock: SharedClock = Arc::new(RealClock);
    // Binding first makes a taken port an error before the data directory is touched.
    let http_listener = bind("http", &config.http_addr).await?;
    let kafka_listener = bind("kafka", &config.kafka_addr).await?;
    let (http_addr, kafka_addr) = (http_listener.local_addr()?, kafka_listener.local_addr()?);
    // The doors stop first, then what they stand on.
    let (doors, broker) = (Shutdown::new(), Shutdown::new());
    let kafka_options = kafka_options(&config, kafka_addr)?;
    let options = embedded_options(&config, &kafka_options, &clock);
    let embedded = Arc::new(Embedded::open(options, broker.clone()).await?);
    let http_options = http_options(&config, http_addr, &kafka_options);
    let http = http_door(&config, &embedded, clock, http_options, &doors);
    let metrics = Arc::clone(&http.kafka_metrics);
    let served =
        server::serve(http_listener, http.router, http.options, http.metrics, doors.clone());
    let kafka =
        kafka::serve(kafka_listener, embedded.engine(), kafka_options, metrics, doors.clone());
    doors.spawn(served);
    doors.spawn(kafka);
    announce(http_addr, kafka_addr)?;
    signals.next().await;
    let drain_timeout = Duration::from_secs(config.drain_timeout_s);
    tokio::select! {
        () = drain(&doors, &broker, &embedded, drain_timeout) => {}
        () = signals.next() => return Err("stopped by a second signal before the drain".into()),
    }
    tokio::task::block_in_place(|| embedded.close());
    tracing::info!("stopped");
    Ok(())
}

/// The HTTP door, ready to be served, and the metrics of both doors.
struct HttpDoor {
    router: axum::Router,
    options: ServeOptions,
    metrics: Arc<HttpMetrics>,
    kafka_metrics: Arc<KafkaMetrics>,
}

fn http_door(
    config: &Config,
    embedded: &Arc<Embedded>,
    clock: SharedClock,
    options: HttpOptions,
    doors: &Shutdown,
) -> HttpDoor {
    let engine = embedded.engine();
    let instances = ConsumersOptions {
        instance_timeout_ms: config.consumer_instance_timeout_ms,
        ..ConsumersOptions::default()
    };
    let consumers = Consumers::start(engine.clone(), Arc::clone(&clock), doors.clone(), instances);
    let metrics = Arc::new(HttpMetrics::default());
    let kafka_metrics = Arc::new(KafkaMetrics::new());
    let process = ProcessMetrics::new(|registry| {
        metrics.register(registry);
        kafka_metrics.register(registry);
    });
    let streams = StreamOptions {
        heartbeat: Duration::from_secs(config.stream_heartbeat_s),
        age_max: Duration::from_secs(config.stream_max_age_s.max(1)),
        // What is left is for the connections of the last ones.
        drain_max: Duration::from_secs(config.drain_timeout_s) * 4 / 5,
        streams_per_ip: match config.stream_max_per_ip {
            Some(most) => StreamsPerIp::All(most),
            None => StreamsPerIp::Remote(limits::STREAMS_PER_IP_MAX),
        },
        ..StreamOptions::default()
    };
    let hub = StreamHub::new(
        engine.clone(),
        Arc::clone(&clock),
        streams,
        Arc::clone(&metrics),
        doors.clone(),
    );
    let streams = hub.clone();
    let serving = ServeOptions {
        connections: Connections {
            max: limits::HTTP_CONNECTIONS_MAX,
            max_per_client: config.http_connections_per_client,
        },
        write_timeout: Duration::from_secs(config.http_write_timeout_s.max(1)),
        streams_end: Arc::new(move || streams.drain_spread()),
    };
    let status = Arc::clone(embedded);
    let state = AppState::new(Inner {
        engine,
        consumers,
        streams: hub,
        metrics: Arc::clone(&metrics),
        clock,
        shutdown: doors.clone(),
        options,
        readiness: readiness(embedded, doors),
        render_metrics: Arc::new(move || process.render(&status.status())),
        bodies: BodyBudget::default(),
        rate: config.http_rate_limit.map(RateLimiter::new),
        request_ids: RequestIds::default(),
        keyless_turn: AtomicU32::new(0),
    });
    HttpDoor { router: router::router(state), options: serving, metrics, kafka_metrics }
}

/// SIGTERM and SIGINT, from the moment this exists.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn bind(door: &str, address: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("{door} address '{address}' cannot be bound: {error}").into())
}

fn http_options(config: &Config, bound: SocketAddr, kafka: &KafkaOptions) -> HttpOptions {
    HttpOptions {
        authority: bound.to_string(),
        kafka_host: kafka.advertised_host.clone(),
        kafka_port: kafka.advertised_port,
        cors_origins: config.cors_origins.clone(),
        produce_batch_entries_max: config.produce_batch_entries_max,
        advertised: config.http_advertised.clone(),
        forwarded: match config.http_forwarded {
            HttpForwarded::Ignore => Forwarded::Ignored,
            HttpForwarded::Links => Forwarded::Links,
            HttpForwarded::All => Forwarded::All,
        },
        compression: if config.http_compression { Compression::Accepted } else { Compression::Off },
    }
}

fn embedded_options(config: &Config, kafka: &KafkaOptions, clock: &SharedClock) -> EmbeddedOptions {
    let groups = GroupConfig {
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        session_timeout_min_ms: config.group_min_session_timeout_ms,
        offsets_retention_ms: i64::from(config.offsets_retention_minutes) * MINUTE_MS,
        ..GroupConfig::default()
    };
    EmbeddedOptions {
        data_dir: config.data_dir.clone(),
        settings: server_settings::list(config, kafka, &groups),
        groups,
        janitor_interval: Duration::from_millis(config.retention_check_interval_ms.max(1)),
        clock: Arc::clone(clock),
    }
}

fn kafka_options(config: &Config, bound: SocketAddr) -> Result<KafkaOptions, CliError> {
    let (host, port) = match config.kafka_advertised.as_deref() {
        None => (advertised_host(bound), bound.port()),
        Some(text) => {
            let invalid = || format!("kafka_advertised '{text}' is not HOST:PORT");
            let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
            (host.to_owned(), port.parse().map_err(|_| invalid())?)
        }
    };
    Ok(KafkaOptions {
        advertised_host: host,
        advertised_port: port,
        connections_max: limits::KAFKA_CONNECTIONS_MAX,
        idle_timeout: KAFKA_IDLE_TIMEOUT,
    })
}

/// Clients cannot connect to the wildcard address.
fn advertised_host(bound: SocketAddr) -> String {
    if bound.ip().is_unspecified() { "127.0.0.1".to_owned() } else { bound.ip().to_string() }
}

fn readiness(embedded: &Arc<Embedded>, doors: &Shutdown) -> Readiness {
    let (embedded, doors) = (Arc::clone(embedded), doors.clone());
    Arc::new(move || {
        let status = embedded.status();
        let mut reasons = Vec::new();
        if doors.is_stopping() {
            reasons.push("the server is draining".to_owned());
        }
        if status.partitions_offline > 0 {
            reasons.push(format!("{} partitions are offline", status.partitions_offline));
        }
        if !status.store_healthy {
            reasons.push("the store cannot be written".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    })
}

/// The two lines that scripts wait for.
fn announce(http: SocketAddr, kafka: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening http://{http}")?;
    writeln!(out, "listening kafka://{kafka}")?;
    out.flush()
}

/// Stops the doors, then the broker's tasks; gives up waiting after `timeout`.
async fn drain(doors: &Shutdown, broker: &Shutdown, embedded: &Embedded, timeout: Duration) {
    tracing::info!("draining");
    doors.stop();
    embedded.release_waiters();
    if tokio::time::timeout(timeout, doors.drained()).await.is_err() {
        tracing::warn!("connections are still open after the drain timeout");
    }
    broker.stop();
    if tokio::time::timeout(timeout, broker.drained()).await.is_err() {
        tracing::warn!("background work is still running after the drain timeout");
    }
}
