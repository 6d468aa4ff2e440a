//! Data directories of every released format open, with their store and without it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hydrant::base::clock::RealClock;
use hydrant::base::ids::{GroupId, TopicName, TopicPartition};
use hydrant::base::shutdown::Shutdown;
use hydrant::coordinator::group::GroupConfig;
use hydrant::engine::embedded::{Embedded, EmbeddedOptions};
use hydrant::engine::groups::OffsetQuery;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn formats() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let found: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!found.is_empty());
    found
}

/// Every fixture holds the topic `orders` with five records in partition 0 of 2, the offset 3
/// committed there by the group `billing`, and the consumer instance `c1` of that group.
async fn check(data_dir: &Path) {
    let shutdown = Shutdown::new();
    let options = EmbeddedOptions {
        data_dir: data_dir.to_path_buf(),
        settings: Vec::new(),
        groups: GroupConfig::default(),
        janitor_interval: Duration::from_secs(3600),
        clock: Arc::new(RealClock),
    };
    let embedded = Embedded::open(options, shutdown.clone()).await.unwrap();
    let engine = embedded.engine();
    let topic = engine.topics.find("orders").unwrap();
    assert_eq!(topic.partition_count, 2);
    assert_eq!(topic.overrides.get("retention.ms").map(String::as_str), Some("-1"));
    let name = TopicName::parse("orders").unwrap();
    assert_eq!(engine.log.bounds(&name, 0).unwrap().high_watermark, 5);
    assert_eq!(embedded.verify(), Vec::<String>::new());
    let asked = OffsetQuery::Partitions(vec![TopicPartition::new(name, 0)]);
    let committed = engine.groups.committed(&GroupId::from("billing"), &asked).unwrap();
    assert_eq!(committed[0].1.as_ref().unwrap().offset, 3);
    let instances = engine.instances.load();
    assert_eq!(instances.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>(), ["c1"]);
    shutdown.stop();
    shutdown.drained().await;
    tokio::task::block_in_place(|| embedded.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_released_format_opens_with_its_store_and_without() {
    for format in formats() {
        let dir = tempfile::tempdir().unwrap();
        copy(&format, dir.path());
        check(dir.path()).await;
        // The second start reads what the first one left behind.
        check(dir.path()).await;
        fs::remove_dir_all(dir.path().join("store")).unwrap();
        check(dir.path()).await;
    }
}
