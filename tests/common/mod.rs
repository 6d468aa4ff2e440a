//! What the black-box tests share: a server in a process of its own, clients of both doors, and
//! waiting with a deadline instead of sleeping.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every test includes this, none uses all of it, and a test fails by panicking"
)]

pub(crate) mod http;
pub(crate) mod rows;
pub(crate) mod sse;
pub(crate) mod wire;
pub(crate) mod ws;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::http::{Answer, Http};
pub(crate) use self::sse::Sse;
pub(crate) use self::wire::Wire;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks at what a test waits for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The monotonic clock, for deadlines and measurements.
#[allow(clippy::disallowed_methods, reason = "deadlines and measurements of tests")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the pause between two looks, never a guess")]
fn pause() {
    std::thread::sleep(LOOK_INTERVAL);
}

/// Looks until there is something, and fails when it takes too long.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "not in time: {what}");
        pause();
    }
}

/// A variable of the environment that steers tests.
#[allow(clippy::disallowed_methods, reason = "tests are steered by the environment")]
pub(crate) fn steer(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints a line that is shown when the test fails (or with `--nocapture`).
#[allow(clippy::print_stdout, reason = "the harness shows it with a failure")]
pub(crate) fn note(line: &str) {
    println!("{line}");
}

/// Small pseudo-random numbers (splitmix64) that one seed repeats.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Takes the seed of `HYDRANT_TEST_SEED`, or one from the clock, and prints it.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = steer("HYDRANT_TEST_SEED").and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let start = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            u64::from(start.subsec_nanos()) ^ u64::from(std::process::id()) << 32
        });
        note(&format!("{test}: repeat with HYDRANT_TEST_SEED={seed}"));
        Self(seed)
    }

    /// Repeats from a number.
    pub(crate) const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// How a server is started.
#[derive(Debug)]
pub(crate) struct Serve {
    command: Command,
}

impl Serve {
    /// On free ports, with the data in `dir`.
    pub(crate) fn on(dir: &Path) -> Self {
        Self::program(env!("CARGO_BIN_EXE_hydrant")).with_ports().arg("--data-dir", dir)
    }

    /// Through another program that becomes the server in the end.
    pub(crate) fn program(program: &str) -> Self {
        let mut command = Command::new(program);
        if program == env!("CARGO_BIN_EXE_hydrant") {
            command.arg("serve");
        }
        Self { command }
    }

    pub(crate) fn with_ports(self) -> Self {
        self.arg("--http-addr", "127.0.0.1:0").arg("--kafka-addr", "127.0.0.1:0")
    }

    pub(crate) fn arg(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(name).arg(value);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Starts it and waits until both doors are open.
    pub(crate) fn start(self) -> Server {
        let mut process = self.spawn();
        let (mut http, mut kafka) = (None, None);
        while http.is_none() || kafka.is_none() {
            let Ok(line) = process.stdout.recv_timeout(PATIENCE) else {
                process.child.kill().unwrap();
                let status = process.child.wait();
                panic!("no server ({status:?}):\n{}", process.stderr());
            };
            if let Some(address) = line.strip_prefix("listening http://") {
                http = Some(address.parse().unwrap());
            } else if let Some(address) = line.strip_prefix("listening kafka://") {
                kafka = Some(address.parse().unwrap());
            }
        }
        Server { http: http.unwrap(), kafka: kafka.unwrap(), process }
    }

    /// Starts it, expects that it ends by itself, and returns how, and its standard error.
    pub(crate) fn refused(self) -> (ExitStatus, String) {
        let mut process = self.spawn();
        let status = process.wait();
        (status, process.stderr())
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(mut self) -> Process {
        let command = &mut self.command;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines_of(child.stdout.take().unwrap());
        let errors = Arc::new(Mutex::new(String::new()));
        let (sink, stderr) = (Arc::clone(&errors), child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut text = sink.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        Process { child, stdout, errors, reader: Some(reader) }
    }
}

fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A child process; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Lines of its standard output; closed when it has ended.
    pub(crate) stdout: Receiver<String>,
    errors: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    /// What it wrote to standard error so far; all of it once it has ended.
    pub(crate) fn stderr(&mut self) -> String {
        if matches!(self.child.try_wait(), Ok(Some(_)))
            && let Some(reader) = self.reader.take()
        {
            reader.join().unwrap();
        }
        self.errors.lock().unwrap().clone()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left behind.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A server that serves.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) kafka: SocketAddr,
    pub(crate) process: Process,
}

impl Server {
    /// A server with default settings on a folder.
    pub(crate) fn on(dir: &Path) -> Self {
        Serve::on(dir).start()
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.http)
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.kafka).unwrap()
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// Ends it as a service manager does.
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(status.success(), "{status}:\n{}", self.process.stderr());
    }

    /// Fails if the process has ended.
    pub(crate) fn assert_alive(&mut self) {
        let ended = self.process.child.try_wait().unwrap();
        assert!(ended.is_none(), "the server ended ({ended:?}):\n{}", self.process.stderr());
    }

    /// Most memory the process ever had, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(status).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Creates a topic by REST.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs: serde_json::Map<_, _> =
            configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let body = serde_json::json!({
            "topic_name": name, "partitions_count": partitions, "configs": configs,
        });
        let answer = self.http().post("/admin/topics", &body);
        assert_eq!(answer.status, 201, "{answer}");
    }

    /// Produces text values to one partition by REST and returns their offsets.
    pub(crate) fn produce(&self, topic: &str, partition: i32, values: &[&str]) -> Vec<i64> {
        let records: Vec<_> =
            values.iter().map(|value| serde_json::json!({ "value": value })).collect();
        let path = format!("/topics/{topic}/partitions/{partition}");
        let answer = self.http().post(&path, &serde_json::json!({ "records": records }));
        assert_eq!(answer.status, 200, "{answer}");
        let json = answer.json();
        let offsets = json["offsets"].as_array().unwrap().iter();
        offsets.map(|entry| entry["offset"].as_i64().unwrap_or_else(|| panic!("{json}"))).collect()
    }
}

/// The folder of one partition, found by the topic's id as Metadata tells it.
pub(crate) fn partition_dir(data: &Path, topic_id: &str, partition: i32) -> PathBuf {
    let log = data.join("log");
    let plain = topic_id.replace('-', "");
    let found = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        found.filter(|path| path.file_name().unwrap().to_string_lossy().replace('-', "") == plain);
    let dir = found.next().unwrap_or_else(|| panic!("no folder of {topic_id} in {log:?}"));
    dir.join(partition.to_string())
}

/// The segment files of a partition, oldest first.
pub(crate) fn segments(partition_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(partition_dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
    found.sort();
    found
}

/// Changes one bit of a file.
pub(crate) fn flip_bit(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Reads to the end within the socket's timeouts.
pub(crate) fn read_all(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ended = stream.read_to_end(&mut bytes);
    bytes
}
