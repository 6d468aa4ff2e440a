//! Kills the server under load from both doors, again and again, and holds it to every promise.
//!
//! `HYDRANT_SLOW_TESTS=1` runs ten times as many rounds, `HYDRANT_TEST_SEED` repeats a run's
//! moments (the threads' order is the system's).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use common::wire::{batch, idempotent_batch};
use common::{Http, Random, Server, Wire, note, now, steer};
use hydrant::protocol::record_batch::ProducerStamp;
use serde_json::{Value, json};

const TOPIC: &str = "load";
const PARTITIONS: i32 = 3;
const INSTANCE: &str = "/consumers/rest-group/instances/reader";

/// Where a record went: its partition, its offset.
type Place = (i32, i64);

/// What one writer did. Every attempt has ids of its own, in ascending order.
#[derive(Debug)]
struct Writer {
    name: &'static str,
    door: Door,
    next_id: u64,
    acknowledged: Vec<(u64, Place)>,
}

#[derive(Debug, Clone, Copy)]
enum Door {
    /// With this text for `acks`.
    Http(&'static str),
    /// With this number for `acks`.
    Wire(i16),
}

/// A record's value; some are larger, so that segments and the journal turn.
fn value(writer: &str, id: u64) -> String {
    let padding = if id.is_multiple_of(16) { 4000 } else { 0 };
    format!("{{\"writer\":\"{writer}\",\"id\":{id},\"padding\":\"{:padding$}\"}}", "")
}

impl Writer {
    const fn new(name: &'static str, door: Door) -> Self {
        Self { name, door, next_id: 0, acknowledged: Vec::new() }
    }

    /// Writes until the server is gone.
    fn run(&mut self, http: SocketAddr, kafka: SocketAddr) {
        let _gone: io::Result<()> = match self.door {
            Door::Http(acks) => self.write_http(http, acks),
            Door::Wire(acks) => self.write_wire(kafka, acks),
        };
    }

    fn take_ids(&mut self, count: u64) -> Vec<u64> {
        let first = self.next_id;
        self.next_id += count;
        (first..self.next_id).collect()
    }

    /// Three records to a request, each to a partition of its own.
    fn write_http(&mut self, address: SocketAddr, acks: &str) -> io::Result<()> {
        let mut http = Http::try_connect(address)?;
        loop {
            let ids = self.take_ids(3);
            let record = |id: &u64| {
                let value: Value = serde_json::from_str(&value(self.name, *id)).unwrap();
                json!({ "value": value, "partition": id % PARTITIONS as u64 })
            };
            let records: Vec<Value> = ids.iter().map(record).collect();
            let path = format!("/topics/{TOPIC}?acks={acks}");
            let answer = http.try_post(&path, &json!({ "records": records }))?;
            assert_eq!(answer.status, 200, "{answer}");
            let json = answer.json();
            for (id, entry) in ids.into_iter().zip(json["offsets"].as_array().unwrap()) {
                let offset = entry["offset"].as_i64().unwrap_or_else(|| panic!("{answer}"));
                let partition = entry["partition"].as_i64().unwrap();
                self.acknowledged.push((id, (partition as i32, offset)));
            }
        }
    }

    /// Two records to a batch.
    fn write_wire(&mut self, address: SocketAddr, acks: i16) -> io::Result<()> {
        let mut wire = Wire::connect(address)?;
        loop {
            let ids = self.take_ids(2);
            let partition = (ids[0] / 2 % PARTITIONS as u64) as i32;
            let values: Vec<String> = ids.iter().map(|id| value(self.name, *id)).collect();
            let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
            let (code, base) = wire.produce(TOPIC, partition, acks, batch(&values))?;
            assert_eq!(code, 0, "{}", self.name);
            for (id, offset) in ids.into_iter().zip(base..) {
                self.acknowledged.push((id, (partition, offset)));
            }
        }
    }
}

/// A producer that sends a batch again, under the same sequence, until it is acknowledged.
#[derive(Debug, Default)]
struct Idempotent {
    identity: Option<(i64, i16)>,
    /// The next batch, or the one that was sent and not acknowledged.
    sequence: i32,
    retries: usize,
    acknowledged: Vec<(u64, Place)>,
}

impl Idempotent {
    const NAME: &'static str = "idempotent";
    const PARTITION: i32 = 1;

    fn run(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut wire = Wire::connect(address)?;
        let identity = match self.identity {
            Some(identity) => identity,
            None => *self.identity.insert(wire.init_producer()?),
        };
        self.retries += 1;
        loop {
            self.send(&mut wire, identity)?;
        }
    }

    fn send(&mut self, wire: &mut Wire, (id, epoch): (i64, i16)) -> io::Result<()> {
        let ids = [self.sequence as u64, self.sequence as u64 + 1];
        let values = ids.map(|id| value(Self::NAME, id));
        let stamp = ProducerStamp { id, epoch, base_sequence: self.sequence };
        let batch = idempotent_batch(stamp, &[values[0].as_bytes(), values[1].as_bytes()]);
        let (code, base) = wire.produce(TOPIC, Self::PARTITION, -1, batch)?;
        assert_eq!(code, 0, "sequence {} of producer {id}", self.sequence);
        for (id, offset) in ids.into_iter().zip(base..) {
            self.acknowledged.push((id, (Self::PARTITION, offset)));
        }
        self.sequence += 2;
        Ok(())
    }
}

/// A group that commits by wire, without members.
#[derive(Debug, Default)]
struct WireCommitter {
    attempted: i64,
    acknowledged: i64,
}

impl WireCommitter {
    const GROUP: &'static str = "wire-group";

    fn run(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut wire = Wire::connect(address)?;
        loop {
            self.attempted += 1;
            let code = wire.commit(Self::GROUP, TOPIC, 0, self.attempted)?;
            assert_eq!(code, 0);
            self.acknowledged = self.attempted;
        }
    }
}

/// An offset to commit by REST.
fn place(partition: i64, offset: i64) -> Value {
    json!({ "topic": TOPIC, "partition": partition, "offset": offset })
}

/// A consumer instance that reads and commits by REST.
#[derive(Debug, Default)]
struct Reader {
    /// By partition: the highest offset delivered, and the next offset as acknowledged.
    delivered: BTreeMap<i64, i64>,
    committed: BTreeMap<i64, i64>,
    polls: usize,
}

impl Reader {
    fn create(server: &Server) {
        let mut http = server.http();
        let new = json!({
            "name": "reader", "format": "json", "auto.offset.reset": "earliest",
            "auto.commit.enable": "false",
        });
        let created = http.post("/consumers/rest-group", &new);
        assert_eq!(created.status, 200, "{created}");
        let topics = json!({ "topics": [TOPIC] });
        let answer = http.post(&format!("{INSTANCE}/subscription"), &topics);
        assert_eq!(answer.status, 204, "{answer}");
    }

    fn run(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut http = Http::try_connect(address)?;
        let mut is_first = BTreeMap::new();
        loop {
            let path = format!("{INSTANCE}/records?timeout=1000&max_bytes=20000");
            let answer = http.send("GET", &path, &[], b"")?;
            assert_eq!(answer.status, 200, "{answer}");
            self.polls += 1;
            let json = answer.json();
            let records = json.as_array().unwrap();
            let mut last = BTreeMap::new();
            for record in records {
                let partition = record["partition"].as_i64().unwrap();
                let offset = record["offset"].as_i64().unwrap();
                let first = is_first.insert(partition, false).unwrap_or(true);
                self.check_next(partition, offset, first);
                last.insert(partition, offset);
            }
            if last.is_empty() {
                continue;
            }
            let offsets: Vec<Value> = last.iter().map(|(p, offset)| place(*p, *offset)).collect();
            let commit = json!({ "offsets": offsets });
            let answer = http.try_post(&format!("{INSTANCE}/offsets"), &commit)?;
            assert_eq!(answer.status, 200, "{answer}");
            for (partition, offset) in last {
                self.committed.insert(partition, offset + 1);
            }
        }
    }

    /// Nothing is skipped, and nothing that was committed comes again.
    fn check_next(&mut self, partition: i64, offset: i64, is_first: bool) {
        let delivered = self.delivered.get(&partition).copied().unwrap_or(-1);
        let committed = self.committed.get(&partition).copied().unwrap_or(0);
        if is_first {
            let range = committed..=delivered + 1;
            assert!(range.contains(&offset), "partition {partition}: {offset}, not in {range:?}");
        } else {
            assert_eq!(offset, delivered + 1, "partition {partition}");
        }
        self.delivered.insert(partition, offset);
    }
}

/// Everybody who works on the server, and what was promised to each.
#[derive(Debug)]
struct Load {
    writers: Vec<Writer>,
    idempotent: Idempotent,
    committer: WireCommitter,
    reader: Reader,
    topic_ids: BTreeMap<String, String>,
}

impl Load {
    fn begin(server: &Server) -> Self {
        server.create_topic(TOPIC, PARTITIONS, &[("segment.bytes", "65536")]);
        Reader::create(server);
        let mut load = Self {
            writers: vec![
                Writer::new("http-1", Door::Http("1")),
                Writer::new("http-all", Door::Http("all")),
                Writer::new("wire-1", Door::Wire(1)),
                Writer::new("wire-all", Door::Wire(-1)),
            ],
            idempotent: Idempotent::default(),
            committer: WireCommitter::default(),
            reader: Reader::default(),
            topic_ids: BTreeMap::new(),
        };
        load.remember_topic(server, TOPIC);
        load
    }

    fn remember_topic(&mut self, server: &Server, topic: &str) {
        let id = server.wire().topic_id(topic);
        self.topic_ids.insert(topic.to_owned(), id);
    }

    /// Loads the server until it is killed at a random moment.
    fn run(&mut self, server: Server, random: &mut Random) {
        let (http, kafka) = (server.http, server.kafka);
        // Checkpoints begin after a second: some rounds end before the first one, some around it.
        let (least, span) = if random.below(3) == 0 { (950, 1300) } else { (80, 500) };
        let moment = Duration::from_millis(least + random.below(span));
        std::thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(move || writer.run(http, kafka));
            }
            let (idempotent, committer) = (&mut self.idempotent, &mut self.committer);
            let reader = &mut self.reader;
            scope.spawn(move || idempotent.run(kafka));
            scope.spawn(move || committer.run(kafka));
            scope.spawn(move || reader.run(http));
            // The moment of the crash is chance, not a wait for anything.
            let (_never, timer) = mpsc::channel::<()>();
            let _elapsed = timer.recv_timeout(moment);
            server.kill();
        });
    }

    fn acknowledged(&self) -> usize {
        let writers: usize = self.writers.iter().map(|w| w.acknowledged.len()).sum();
        writers + self.idempotent.acknowledged.len()
    }

    /// Holds a server to everything that was acknowledged.
    fn verify(&self, server: &Server) {
        let mut wire = server.wire();
        for (topic, id) in &self.topic_ids {
            assert_eq!(wire.topic_id(topic), *id, "{topic}");
        }
        let found = read_everything(&mut wire);
        let idempotent = (Idempotent::NAME, &self.idempotent.acknowledged);
        let writers = self.writers.iter().map(|w| (w.name, &w.acknowledged));
        for (name, acknowledged) in writers.chain([idempotent]) {
            for (id, place) in acknowledged {
                let at = found.get(&(name.to_owned(), *id));
                assert_eq!(at, Some(place), "acknowledged record {id} of {name}");
            }
        }
        let committed = wire.committed(WireCommitter::GROUP, TOPIC, 0).unwrap();
        let range = self.committer.acknowledged..=self.committer.attempted;
        if self.committer.acknowledged > 0 {
            assert!(range.contains(&committed), "committed {committed}, not in {range:?}");
        }
        for (partition, acknowledged) in &self.reader.committed {
            let committed = wire.committed("rest-group", TOPIC, *partition as i32).unwrap();
            assert!(committed >= *acknowledged, "{TOPIC}-{partition}: {committed}");
        }
        let mut http = server.http();
        let subscription = http.get(&format!("{INSTANCE}/subscription"));
        assert_eq!(subscription.json()["topics"], json!([TOPIC]), "{subscription}");
        assert_eq!(http.get("/readyz").status, 200);
    }
}

/// Every record by writer and id. Each is there once, and each writer's are in order.
fn read_everything(wire: &mut Wire) -> HashMap<(String, u64), Place> {
    let mut found = HashMap::new();
    for partition in 0..PARTITIONS {
        let mut last: HashMap<String, u64> = HashMap::new();
        for (row, offset) in wire.read_partition(TOPIC, partition).into_iter().zip(0..) {
            assert_eq!(row.offset, offset, "an offset is skipped in {TOPIC}-{partition}");
            let value: Value = serde_json::from_slice(row.value.as_deref().unwrap()).unwrap();
            let writer = value["writer"].as_str().unwrap().to_owned();
            let id = value["id"].as_u64().unwrap();
            let before = last.insert(writer.clone(), id);
            assert!(before < Some(id), "{writer} in {TOPIC}-{partition}: {id} after {before:?}");
            let other = found.insert((writer.clone(), id), (partition, offset));
            assert_eq!(other, None, "{id} of {writer} is there twice");
        }
    }
    found
}

/// Overwrites every file below a folder with as many random bytes.
fn fill_with_garbage(dir: &Path, random: &mut Random) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fill_with_garbage(&path, random);
        } else {
            let length = path.metadata().unwrap().len();
            std::fs::write(&path, random.bytes(length as usize)).unwrap();
        }
    }
    std::fs::write(dir.join("garbage"), random.bytes(1000)).unwrap();
}

#[test]
fn what_was_acknowledged_survives_every_crash() {
    let rounds = if steer("HYDRANT_SLOW_TESTS").as_deref() == Some("1") { 50 } else { 5 };
    let mut random = Random::seeded("crash");
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::on(dir.path());
    let mut load = Load::begin(&server);
    for round in 0..rounds {
        let topic = format!("round-{round}");
        server.create_topic(&topic, 1, &[]);
        load.remember_topic(&server, &topic);
        load.run(server, &mut random);
        let started = now();
        server = Server::on(dir.path());
        let up = started.elapsed();
        load.verify(&server);
        let count = load.acknowledged();
        note(&format!("round {round}: up in {up:?}, {count} acknowledged records are there"));
    }
    for writer in &load.writers {
        assert!(!writer.acknowledged.is_empty(), "{} never wrote", writer.name);
    }
    assert!(load.idempotent.acknowledged.len() > 2 && load.idempotent.retries >= rounds);
    assert!(load.committer.acknowledged > 0 && load.reader.polls > 0);
    assert!(!load.reader.committed.is_empty(), "the reader never committed");

    server.stop();
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let server = Server::on(dir.path());
    load.verify(&server);
    load.run(server, &mut random);
    note("the store was rebuilt from the log");

    fill_with_garbage(&dir.path().join("store"), &mut random);
    let server = Server::on(dir.path());
    load.verify(&server);
    load.run(server, &mut random);
    note("the store was rebuilt in the place of garbage");
    load.verify(&Server::on(dir.path()));
}
