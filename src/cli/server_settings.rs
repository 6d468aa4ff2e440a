//! The settings that the server was started with, by the names that Kafka's tools know.

use crate::base::limits;
use crate::config::Config;
use crate::coordinator::group::GroupConfig;
use crate::engine::configs::ConfigKind;
use crate::engine::embedded::ServerSetting;
use crate::kafka::KafkaOptions;

/// Lists what clients can see of the configuration; what only the HTTP door knows has no Kafka
/// name and is left out.
pub(super) fn list(
    config: &Config,
    kafka: &KafkaOptions,
    groups: &GroupConfig,
) -> Vec<ServerSetting> {
    use ConfigKind::{Boolean, Int, List, Long, Text};
    let (default, group_default) = (Config::default(), GroupConfig::default());
    let advertised = format!("PLAINTEXT://{}:{}", kafka.advertised_host, kafka.advertised_port);
    let folder = |config: &Config| config.data_dir.display().to_string();
    let listener = |config: &Config| format!("PLAINTEXT://{}", config.kafka_addr);
    vec![
        ServerSetting::own("advertised.listeners", List, &advertised),
        ServerSetting::chosen("listeners", List, &listener(config), &listener(&default)),
        ServerSetting::chosen("log.dirs", Text, &folder(config), &folder(&default)),
        ServerSetting::chosen(
            "auto.create.topics.enable",
            Boolean,
            &config.auto_create_topics,
            &default.auto_create_topics,
        ),
        ServerSetting::chosen(
            "num.partitions",
            Int,
            &config.num_partitions,
            &default.num_partitions,
        ),
        ServerSetting::chosen(
            "log.retention.check.interval.ms",
            Long,
            &config.retention_check_interval_ms,
            &default.retention_check_interval_ms,
        ),
        ServerSetting::chosen(
            "group.initial.rebalance.delay.ms",
            Int,
            &groups.initial_rebalance_delay_ms,
            &group_default.initial_rebalance_delay_ms,
        ),
        ServerSetting::chosen(
            "group.min.session.timeout.ms",
            Int,
            &groups.session_timeout_min_ms,
            &group_default.session_timeout_min_ms,
        ),
        ServerSetting::chosen(
            "group.max.session.timeout.ms",
            Int,
            &groups.session_timeout_max_ms,
            &group_default.session_timeout_max_ms,
        ),
        ServerSetting::fixed("group.max.size", Int, &groups.size_max),
        ServerSetting::fixed("offset.metadata.max.bytes", Int, &groups.offset_metadata_bytes_max),
        ServerSetting::chosen(
            "offsets.retention.minutes",
            Int,
            &config.offsets_retention_minutes,
            &default.offsets_retention_minutes,
        ),
        ServerSetting::fixed("max.connections", Int, &kafka.connections_max),
        ServerSetting::fixed("connections.max.idle.ms", Long, &kafka.idle_timeout.as_millis()),
        ServerSetting::fixed("socket.request.max.bytes", Int, &limits::FRAME_BYTES_MAX),
        ServerSetting::fixed("fetch.max.bytes", Int, &limits::FETCH_BYTES_MAX),
    ]
}
