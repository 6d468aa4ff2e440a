//! Damage and refusal of the disk: what is lost is said, what is whole is served.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use common::wire::{self, Wire};
use common::{Answer, Serve, Server, flip_bit, note, partition_dir, segments};
use serde_json::{Value, json};

const STORAGE_ERROR: i16 = 56;

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// A folder whose server was killed after writing batches of one to three records to t-0 and one
/// record to t-1; with the id of the topic and the number of records in t-0.
struct Killed {
    dir: tempfile::TempDir,
    topic_id: String,
}

/// Records in each batch of [`killed`].
const BATCHES: usize = 12;

/// Written at `acks` 1, a batch is in its segment alone; at all, the journal has it, too.
fn killed(acks: i16) -> Killed {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 2, &[]);
    let mut wire = server.wire();
    let topic_id = wire.topic_id("t");
    for n in 0..BATCHES {
        let values: Vec<String> = (0..=n % 3).map(|m| format!("value {n}.{m}")).collect();
        let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
        assert_eq!(wire.produce("t", 0, acks, wire::batch(&values)).unwrap().0, 0);
    }
    assert_eq!(wire.produce("t", 1, -1, wire::batch(&[b"other"])).unwrap().0, 0);
    server.kill();
    Killed { dir, topic_id }
}

impl Killed {
    /// The segment of t-0 in a copy of the folder.
    fn copy(&self) -> (tempfile::TempDir, PathBuf) {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.dir.path(), copy.path());
        let segment = segments(&partition_dir(copy.path(), &self.topic_id, 0)).pop().unwrap();
        (copy, segment)
    }
}

/// Expects the first `count` records of t-0, t-1 whole, and a partition that goes on.
fn expect_records(dir: &Path, count: i64, what: &str) {
    let server = Server::on(dir);
    let mut wire = server.wire();
    let offsets: Vec<i64> = wire.read_partition("t", 0).iter().map(|row| row.offset).collect();
    assert_eq!(offsets, (0..count).collect::<Vec<_>>(), "{what}");
    assert_eq!(wire.read_partition("t", 1).len(), 1, "{what}");
    assert_eq!(server.http().get("/readyz").status, 200, "{what}");
    let next = wire.produce("t", 0, -1, wire::batch(&[b"next"])).unwrap();
    assert_eq!(next, (0, count), "{what}");
    server.kill();
    // What was cut off does not come back.
    let server = Server::on(dir);
    let rows = server.wire().read_partition("t", 0);
    assert_eq!(rows.len() as i64, count + 1, "{what}");
    assert_eq!(rows.last().unwrap().value.as_deref(), Some(b"next".as_slice()), "{what}");
}

#[test]
fn a_torn_tail_is_cut_to_the_last_whole_batch() {
    let killed = killed(1);
    let (_copy, segment) = killed.copy();
    let bytes: Bytes = fs::read(segment).unwrap().into();
    let batches = wire::batches(&bytes);
    assert_eq!(batches.len(), BATCHES);
    // Ends of batches with the offset that follows them.
    let mut ends = vec![(0, 0)];
    for (header, batch) in &batches {
        let (end, _) = ends.last().unwrap();
        ends.push((end + batch.len(), header.next_offset()));
    }
    let len = bytes.len();
    let (last, _) = ends[BATCHES - 1];
    let cuts =
        [len - 1, len - 20, last + 61, last + 60, last + 12, last + 1, last, last - 1, 61, 5, 0];
    for cut in cuts {
        let (copy, segment) = killed.copy();
        File::options().write(true).open(segment).unwrap().set_len(cut as u64).unwrap();
        let (_, count) = ends.iter().rfind(|(end, _)| *end <= cut).unwrap();
        expect_records(copy.path(), *count, &format!("cut to {cut} of {len} bytes"));
    }
}

#[test]
fn durable_records_that_a_segment_lost_come_back_from_the_journal() {
    let killed = killed(-1);
    let (_copy, segment) = killed.copy();
    let bytes: Bytes = fs::read(segment).unwrap().into();
    let count = wire::rows(&bytes).len() as i64;
    for cut in [bytes.len() - 1, bytes.len() / 2, 61, 5, 0] {
        let (copy, segment) = killed.copy();
        File::options().write(true).open(segment).unwrap().set_len(cut as u64).unwrap();
        expect_records(copy.path(), count, &format!("cut to {cut} of {} bytes", bytes.len()));
    }
}

/// What was only promised to be written may be gone between two that were promised to be on disk:
/// those keep their offsets, and readers step over the hole.
#[test]
fn durable_records_keep_their_offsets_when_others_between_them_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let mut wire = server.wire();
    let topic_id = wire.topic_id("t");
    for n in 0..12 {
        let acks = if n % 3 == 2 { -1 } else { 1 };
        let value = n.to_string();
        let batch = wire::batch(&[value.as_bytes()]);
        assert_eq!(wire.produce("t", 0, acks, batch).unwrap(), (0, n));
    }
    server.kill();
    let segment = segments(&partition_dir(dir.path(), &topic_id, 0)).pop().unwrap();
    let batches = wire::batches(&fs::read(&segment).unwrap().into());
    let kept: usize = batches[..4].iter().map(|(_, batch)| batch.len()).sum();
    File::options().write(true).open(segment).unwrap().set_len(kept as u64).unwrap();
    for round in 0..2 {
        let server = Server::on(dir.path());
        let mut wire = server.wire();
        let mut wanted = vec![0, 1, 2, 3, 5, 8, 11];
        wanted.extend(12..12 + round);
        let found: Vec<_> = wire.read_partition("t", 0).iter().map(|row| row.offset).collect();
        assert_eq!(found, wanted);
        let path = assigned(&server, &format!("reader-{round}"), 0);
        let answer = server.http().get(&format!("{path}/records?timeout=5000"));
        let json = answer.json();
        let read: Vec<_> = json.as_array().unwrap().iter().map(|r| r["offset"].clone()).collect();
        assert_eq!(json!(read), json!(wanted), "{answer}");
        let next = wire.produce("t", 0, 1, wire::batch(&[b"9"])).unwrap();
        assert_eq!(next, (0, 12 + round));
        server.kill();
    }
}

#[test]
fn a_damaged_journal_takes_nothing_that_segments_hold() {
    let killed = killed(-1);
    let count = wire::rows(&fs::read(killed.copy().1).unwrap().into()).len() as i64;
    let mut random = common::Random::from_seed(11);
    let journal = killed.dir.path().join("journal");
    let files: Vec<_> = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for (what, damage) in [("gone", None), ("cut", Some(1000)), ("zeroes and garbage", Some(8192))]
    {
        let (copy, _) = killed.copy();
        for file in &files {
            let file = copy.path().join("journal").join(file.file_name().unwrap());
            match damage {
                None => fs::remove_file(&file).unwrap(),
                Some(1000) => {
                    File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
                }
                Some(bytes) => fs::write(&file, random.bytes(bytes)).unwrap(),
            }
        }
        expect_records(copy.path(), count, what);
    }
}

#[test]
fn garbage_behind_the_last_batch_is_cut_off() {
    let killed = killed(1);
    let (copy, segment) = killed.copy();
    let mut bytes = fs::read(&segment).unwrap();
    let count = wire::rows(&Bytes::from(bytes.clone())).len() as i64;
    bytes.extend_from_slice(&[0; 4096]);
    fs::write(&segment, &bytes).unwrap();
    expect_records(copy.path(), count, "zeroes");
    let (copy, segment) = killed.copy();
    bytes.truncate(bytes.len() - 4096);
    bytes.extend(common::Random::from_seed(7).bytes(500));
    fs::write(&segment, &bytes).unwrap();
    expect_records(copy.path(), count, "random bytes");
}

#[test]
fn a_flipped_bit_in_the_tail_cuts_the_tail() {
    let killed = killed(1);
    for from_end in [1, 8, 30, 60] {
        let (copy, segment) = killed.copy();
        let bytes: Bytes = fs::read(&segment).unwrap().into();
        let batches = wire::batches(&bytes);
        let (last, _) = batches.last().unwrap();
        // Without the store nothing is taken on trust: every batch is checked.
        fs::remove_dir_all(copy.path().join("store")).unwrap();
        flip_bit(&segment, bytes.len() as u64 - from_end);
        expect_records(copy.path(), last.base_offset, &format!("{from_end} from the end"));
    }
}

/// A partition of several closed segments with one bit flipped in the first, and its neighbour.
fn damaged() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 2, &[("segment.bytes", "1000")]);
    let mut wire = server.wire();
    let topic_id = wire.topic_id("t");
    for n in 0..30 {
        for partition in 0..2 {
            let value = format!("\"value {n:090}\"");
            let batch = wire::batch(&[value.as_bytes()]);
            assert_eq!(wire.produce("t", partition, 1, batch).unwrap(), (0, n));
        }
    }
    server.kill();
    let segments = segments(&partition_dir(dir.path(), &topic_id, 0));
    assert!(segments.len() > 2, "{segments:?}");
    (dir, segments[0].clone())
}

fn expect_storage_error(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer}");
    let json = answer.json();
    assert_eq!(json["error_code"], 50003, "{answer}");
    assert!(!json["message"].as_str().unwrap().is_empty());
}

/// An instance that is assigned one partition of `t`.
fn assigned(server: &Server, name: &str, partition: i32) -> String {
    let mut http = server.http();
    let new = json!({ "name": name, "format": "json", "auto.offset.reset": "earliest" });
    assert_eq!(http.post(&format!("/consumers/{name}"), &new).status, 200);
    let path = format!("/consumers/{name}/instances/{name}");
    let wanted = json!({ "partitions": [{ "topic": "t", "partition": partition }] });
    let answer = http.post(&format!("{path}/assignments"), &wanted);
    assert_eq!(answer.status, 204, "{answer}");
    path
}

#[test]
fn a_damaged_closed_segment_takes_its_partition_offline_and_no_other() {
    let (dir, segment) = damaged();
    flip_bit(&segment, 100);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    let mut server = Server::on(dir.path());
    let mut wire = server.wire();
    assert_eq!(wire.fetch("t", 0, 0).unwrap().code, STORAGE_ERROR);
    assert_eq!(wire.produce("t", 0, -1, wire::batch(&[b"v"])).unwrap().0, STORAGE_ERROR);
    assert_eq!(wire.list_offset("t", 0, -1).unwrap().0, STORAGE_ERROR);
    // The client is told where the partition is, so that it asks and learns why.
    assert_eq!(wire.metadata(&["t"]).unwrap().topics[0].partitions.len(), 2);
    let mut http = server.http();
    expect_storage_error(&http.get("/topics/t/partitions/0/offsets"), 500);
    let body = json!({ "records": [{ "value": 1 }] });
    let produced = http.post("/topics/t/partitions/0", &body);
    assert_eq!(produced.status, 200, "{produced}");
    assert_eq!(produced.json()["offsets"][0]["error_code"], 50003, "{produced}");
    let bad = assigned(&server, "bad", 0);
    expect_storage_error(&http.get(&format!("{bad}/records?timeout=1000")), 500);

    assert_eq!(wire.read_partition("t", 1).len(), 30);
    assert_eq!(wire.produce("t", 1, -1, wire::batch(&[b"\"v\""])).unwrap(), (0, 30));
    let good = assigned(&server, "good", 1);
    let answer = http.get(&format!("{good}/records?timeout=5000"));
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.json()[0]["offset"], 0);
    assert_eq!(http.get("/topics/t/partitions/1/offsets").json()["end_offset"], 31);

    let ready = http.get("/readyz");
    assert_eq!(ready.status, 503, "{ready}");
    let reasons = ready.json()["reasons"].to_string();
    assert!(reasons.contains("1 partition") && reasons.contains("offline"), "{reasons}");
    assert_eq!(http.get("/livez").status, 200);
    assert!(http.get("/metrics").text().contains("hydrant_partitions_offline 1"));
    let logs = server.process.stderr();
    assert!(logs.contains("is damaged at byte") && logs.contains("\"t-0\""), "{logs}");
    assert!(!logs.contains("panicked"), "{logs}");
    server.stop();
    let doctor = Command::new(env!("CARGO_BIN_EXE_hydrant"))
        .args(["doctor", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(!doctor.status.success());
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("(1 offline)"), "{text}");
}

/// With a store that knows the segment, nothing scans it on start: the damage shows when it is
/// read, and must never pass for data.
#[test]
fn damage_in_a_known_segment_is_never_served_as_records() {
    let (dir, segment) = damaged();
    Server::on(dir.path()).stop();
    flip_bit(&segment, 100);
    let mut server = Server::on(dir.path());
    let fetched = server.wire().fetch("t", 0, 0).unwrap();
    // Kafka's clients check the CRC themselves; what arrives is an error or a bad CRC.
    let (header, batch) = wire::batches(&fetched.records)
        .first()
        .cloned()
        .map_or_else(|| (None, Bytes::new()), |(header, batch)| (Some(header), batch));
    let is_intact = header.is_some_and(|h| crc32c::crc32c(&batch[21..]) == h.crc);
    assert!(fetched.code == STORAGE_ERROR || !is_intact);
    let path = assigned(&server, "reader", 0);
    let answer = server.http().get(&format!("{path}/records?timeout=1000"));
    assert_eq!(answer.status, 500, "{answer}");
    assert!(answer.json()["error_code"].as_u64().unwrap() >= 50002, "{answer}");
    assert_eq!(server.wire().read_partition("t", 1).len(), 30);
    server.assert_alive();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.join("data"), PathBuf::from("/proc/hydrant-data")] {
        let (status, text) = Serve::on(&path).refused();
        assert!(!status.success());
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_folder_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let (status, text) = Serve::on(dir.path()).refused();
    assert!(!status.success());
    assert!(text.contains(dir.path().to_str().unwrap()) && text.contains("in use"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    // The first one does not notice, and its folder is free when it has gone, however it went.
    assert_eq!(server.produce("t", 0, &["a"]), [0]);
    server.kill();
    assert_eq!(Server::on(dir.path()).wire().read_partition("t", 0).len(), 1);
}

/// Bytes of a record that fills the disk quickly.
const LARGE: usize = 256 * 1024;

/// A batch of one large record.
fn large_batch() -> Bytes {
    let value = format!("\"{}\"", "x".repeat(LARGE));
    wire::batch(&[value.as_bytes()])
}

/// Produces until the disk refuses, and returns how many records were acknowledged.
fn fill(wire: &mut Wire, partition: i32, acks: i16) -> i64 {
    for count in 0.. {
        match wire.produce("t", partition, acks, large_batch()).unwrap() {
            (0, offset) => assert_eq!(offset, count, "no offset is skipped"),
            (code, _) => {
                assert_eq!(code, STORAGE_ERROR, "after {count} records");
                return count;
            }
        }
        assert!(count < 2000, "the disk is never full");
    }
    unreachable!()
}

/// The server refuses and goes on: errors per record, earlier records, its state.
fn expect_full(server: &mut Server, partition: i32, count: i64) {
    let value = "x".repeat(LARGE);
    let body = json!({ "records": [{ "value": value }] });
    let refused = server.http().post(&format!("/topics/t/partitions/{partition}"), &body);
    assert_eq!(refused.status, 200, "{refused}");
    let entry = &refused.json()["offsets"][0];
    assert_eq!(entry["error_code"], 50003, "{entry}");
    assert_eq!(entry["offset"], Value::Null, "{entry}");
    assert_eq!(server.wire().read_partition("t", partition).len() as i64, count);
    assert_eq!(server.http().get("/livez").status, 200);
    server.assert_alive();
    let logs = server.process.stderr();
    assert!(!logs.contains("panicked"), "{logs}");
}

/// Limits the size of files: every write beyond it fails, as on a full disk.
#[test]
fn a_file_that_may_not_grow_refuses_records_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    // 512-byte or 1024-byte blocks, as the shell likes: 20 or 40 MiB, more than the journal needs.
    let script = "trap '' XFSZ; ulimit -f 40960; exec \"$0\" \"$@\"";
    let limited =
        Serve::program("sh").arg("-c", script).arg(env!("CARGO_BIN_EXE_hydrant"), "serve");
    let mut server = limited.with_ports().arg("--data-dir", dir.path()).start();
    server.create_topic("t", 2, &[]);
    let written = fill(&mut server.wire(), 0, 1);
    expect_full(&mut server, 0, written);
    let durable = fill(&mut server.wire(), 1, -1);
    expect_full(&mut server, 1, durable);
    note(&format!("{written} and {durable} records before the limit"));
    server.kill();
    let server = Server::on(dir.path());
    for (partition, count) in [(0, written), (1, durable)] {
        let mut wire = server.wire();
        assert_eq!(wire.read_partition("t", partition).len() as i64, count);
        assert_eq!(wire.produce("t", partition, -1, large_batch()).unwrap(), (0, count));
    }
    assert_eq!(server.http().get("/readyz").status, 200);
}

/// A small file system of its own, unmounted when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where mounting is not permitted.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path());
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        is_mounted.then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that a server that still ends does not keep it.
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_refuses_records_until_there_is_room_again() {
    let Some(disk) = SmallDisk::mount("64m") else {
        note("mounting is not permitted here: only the limit of files is tested");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    let data = disk.0.path().join("data");
    let mut server = Server::on(&data);
    server.create_topic("t", 2, &[]);
    let first = server.produce("t", 1, &["before"]);
    assert_eq!(first, [0]);
    let count = fill(&mut server.wire(), 0, -1);
    expect_full(&mut server, 0, count);
    fs::remove_file(&ballast).unwrap();
    // The same process goes on when there is room.
    let mut wire = server.wire();
    assert_eq!(wire.produce("t", 0, -1, large_batch()).unwrap(), (0, count));
    assert_eq!(server.produce("t", 1, &["after"]), [1]);
    common::eventually("the server is ready again", || {
        (server.http().get("/readyz").status == 200).then_some(())
    });
    server.kill();
    let server = Server::on(&data);
    assert_eq!(server.wire().read_partition("t", 0).len() as i64, count + 1);
    assert_eq!(server.wire().read_partition("t", 1).len(), 2);
    drop(server);
}
