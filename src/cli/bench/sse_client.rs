//! Reads thousands of live streams on a few threads.
//!
//! Each stream is a local task without a buffer of its own: a thread's streams read into one
//! buffer, and only a line cut in two is kept. Events are recognised by the sequence number in
//! their `data:` line and not otherwise parsed, so it does not matter how a server wraps them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use memchr::{memchr, memmem};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::BenchResult;
use super::http_client::{ChunkDecoder, Framing, HttpConnection, Target};
use super::load::{deal, run_on_threads};
use super::payload::{SENT_FIELD, SEQUENCE_FIELD, now_ns};
use super::report::Tally;

/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// Streams that are being opened at once.
const OPENING_MAX: usize = 64;

/// Longest line that is kept when it is cut in two.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// An open stream: its socket, what was read behind the head, and how the body is coded.
#[derive(Debug)]
pub(super) struct OpenStream {
    socket: std::net::TcpStream,
    leftover: BytesMut,
    framing: Framing,
}

/// Opens `count` streams of `path`.
pub(super) async fn open(
    target: &Target,
    path: &str,
    count: usize,
) -> BenchResult<Vec<OpenStream>> {
    let request: Arc<[u8]> =
        target.request("GET", path, &[("accept", "text/event-stream")], b"").into();
    let mut opening = tokio::task::JoinSet::new();
    let mut open = Vec::with_capacity(count);
    let mut started = 0;
    while open.len() < count {
        while started < count && opening.len() < OPENING_MAX {
            opening.spawn(open_one(target.clone(), Arc::clone(&request)));
            started += 1;
        }
        let stream = opening.join_next().await.ok_or("no stream is being opened")?;
        open.push(stream??);
    }
    Ok(open)
}

async fn open_one(target: Target, request: Arc<[u8]>) -> BenchResult<OpenStream> {
    let mut connection = HttpConnection::connect(&target).await?;
    let head = connection.begin(&request).await?;
    let (socket, leftover) = connection.into_parts()?;
    if head.status != 200 {
        let said = String::from_utf8_lossy(&leftover);
        return Err(format!("opening a stream: HTTP {}: {said}", head.status).into());
    }
    Ok(OpenStream { socket, leftover, framing: head.framing })
}

/// What all streams of a run received.
#[derive(Debug)]
pub(super) struct Received {
    /// Events, their bytes on the stream, and latencies.
    pub(super) tally: Tally,
    /// Events that came more than once to a stream.
    pub(super) duplicates: u64,
    /// Streams that the server closed.
    pub(super) closed_streams: u64,
}

/// What readers and the publisher share.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Distinct events delivered so far. Relaxed: a count.
    delivered: AtomicU64,
    /// When the last of them came, in nanoseconds since the Unix epoch.
    last_ns: AtomicU64,
    /// Cancelled when the run is over.
    pub(super) stop: CancellationToken,
}

impl Progress {
    /// Distinct events delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// When the last event came, in nanoseconds since the Unix epoch.
    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }
}

/// Reads `streams` until the run is over. Sequence numbers go from 0 to below `events`.
pub(super) async fn read(
    streams: Vec<OpenStream>,
    events: u64,
    threads: usize,
    progress: Arc<Progress>,
) -> BenchResult<Received> {
    let received = run_on_threads(deal(streams, threads), move |streams| {
        let progress = Arc::clone(&progress);
        async move {
            let thread = Rc::new(ThreadState::new(progress)?);
            let mut tasks = Vec::new();
            for stream in streams {
                let reader = StreamReader::new(stream, events, Rc::clone(&thread))?;
                tasks.push(tokio::task::spawn_local(reader.run()));
            }
            for task in tasks {
                task.await??;
            }
            Ok(Rc::into_inner(thread).ok_or("a stream is still read")?.received.into_inner())
        }
    });
    let mut sum = Received { tally: Tally::new()?, duplicates: 0, closed_streams: 0 };
    for part in received.await? {
        sum.tally.merge(&part.tally)?;
        sum.duplicates += part.duplicates;
        sum.closed_streams += part.closed_streams;
    }
    Ok(sum)
}

/// What the streams of one thread share.
#[derive(Debug)]
struct ThreadState {
    buffer: RefCell<Vec<u8>>,
    received: RefCell<Received>,
    progress: Arc<Progress>,
}

impl ThreadState {
    fn new(progress: Arc<Progress>) -> BenchResult<Self> {
        let received = Received { tally: Tally::new()?, duplicates: 0, closed_streams: 0 };
        let (buffer, received) = (RefCell::new(vec![0; READ_BYTES]), RefCell::new(received));
        Ok(Self { buffer, received, progress })
    }
}

#[derive(Debug)]
struct StreamReader {
    socket: TcpStream,
    chunks: Option<ChunkDecoder>,
    lines: LineScanner,
    leftover: BytesMut,
    thread: Rc<ThreadState>,
}

impl StreamReader {
    fn new(stream: OpenStream, events: u64, thread: Rc<ThreadState>) -> BenchResult<Self> {
        let OpenStream { socket, leftover, framing } = stream;
        let chunks = (framing == Framing::Chunked).then(ChunkDecoder::default);
        let socket = TcpStream::from_std(socket)?;
        Ok(Self { socket, chunks, lines: LineScanner::new(events), leftover, thread })
    }

    async fn run(mut self) -> BenchResult<()> {
        let leftover = std::mem::take(&mut self.leftover);
        self.take_in(&leftover)?;
        let thread = Rc::clone(&self.thread);
        let stopped = thread.progress.stop.cancelled();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                // A socket with bytes costs no look at the token.
                biased;
                ready = self.socket.readable() => ready?,
                () = &mut stopped => return Ok(()),
            }
            let mut buffer = thread.buffer.borrow_mut();
            let taken = match self.socket.try_read(&mut buffer) {
                Ok(taken) => taken,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_reset) => 0,
            };
            if taken == 0 {
                thread.received.borrow_mut().closed_streams += 1;
                return Ok(());
            }
            self.take_in(buffer.get(..taken).unwrap_or_default())?;
        }
    }

    /// Takes in bytes as they came from the socket.
    fn take_in(&mut self, bytes: &[u8]) -> BenchResult<()> {
        let now = now_ns();
        let mut guard = self.thread.received.borrow_mut();
        let received = &mut *guard;
        let before = received.tally.records;
        let lines = &mut self.lines;
        match &mut self.chunks {
            None => lines.feed(bytes, now, received),
            Some(chunks) => {
                chunks.feed(bytes, |data| lines.feed(data, now, received))?;
            }
        }
        let fresh = received.tally.records - before;
        if fresh > 0 {
            let progress = &self.thread.progress;
            progress.delivered.fetch_add(fresh, Ordering::Relaxed);
            progress.last_ns.fetch_max(now, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Finds events in the lines of one stream and remembers which ones came.
#[derive(Debug)]
struct LineScanner {
    /// The beginning of a line that is not whole yet.
    partial: Vec<u8>,
    /// One bit per sequence number.
    seen: Vec<u64>,
    events: u64,
}

impl LineScanner {
    fn new(events: u64) -> Self {
        let words = usize::try_from(events.div_ceil(64)).unwrap_or(0);
        Self { partial: Vec::new(), seen: vec![0; words], events }
    }

    fn feed(&mut self, data: &[u8], now: u64, received: &mut Received) {
        received.tally.bytes += data.len() as u64;
        let mut rest = data;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.partial.is_empty() {
                self.line(line, now, received);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, now, received);
                whole.clear();
                self.partial = whole;
            }
        }
        if self.partial.len() + rest.len() <= LINE_BYTES_MAX {
            self.partial.extend_from_slice(rest);
        }
    }

    fn line(&mut self, line: &[u8], now: u64, received: &mut Received) {
        if !line.starts_with(b"data:") {
            return;
        }
        let Some(sequence) = number_after(line, SEQUENCE_FIELD) else { return };
        let index = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        let Some(word) = self.seen.get_mut(index).filter(|_| sequence < self.events) else {
            return;
        };
        let bit = 1 << (sequence % 64);
        if *word & bit != 0 {
            received.duplicates += 1;
            return;
        }
        *word |= bit;
        received.tally.records += 1;
        if let Some(sent) = number_after(line, SENT_FIELD) {
            received.tally.record_latency_ns(now.saturating_sub(sent));
        }
    }
}

/// Reads the number that follows `field`, past at most a few characters of JSON punctuation: the
/// event may be an object or an object within a string.
fn number_after(line: &[u8], field: &str) -> Option<u64> {
    const PUNCTUATION_MAX: usize = 6;
    let after = line.get(memmem::find(line, field.as_bytes())? + field.len()..)?;
    let start = after.iter().take(PUNCTUATION_MAX).position(u8::is_ascii_digit)?;
    let digits = after.iter().skip(start).take_while(|b| b.is_ascii_digit());
    Some(digits.fold(0_u64, |sum, b| sum.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::payload::event_value;

    fn received() -> Received {
        Received { tally: Tally::new().unwrap(), duplicates: 0, closed_streams: 0 }
    }

    #[test]
    fn events_are_counted_once_in_any_pieces() {
        let frame = |n| format!("id: {n}\ndata: {{\"value\":{}}}\n\n", event_value(n, 100));
        let text = format!(": hi\n\n{}{}{}data: other\n\n", frame(0), frame(2), frame(2));
        for piece in 1..text.len() {
            let (mut scanner, mut received) = (LineScanner::new(3), received());
            for part in text.as_bytes().chunks(piece) {
                scanner.feed(part, now_ns(), &mut received);
            }
            assert_eq!(received.tally.records, 2);
            assert_eq!(received.duplicates, 1);
            assert_eq!(received.tally.bytes, text.len() as u64);
        }
    }

    #[test]
    fn numbers_are_found_in_objects_and_in_strings() {
        assert_eq!(number_after(br#"data: {"bench_seq":12,"#, SEQUENCE_FIELD), Some(12));
        assert_eq!(number_after(br#"data: "{\"bench_seq\": 7}""#, SEQUENCE_FIELD), Some(7));
        assert_eq!(number_after(b"data: {}", SEQUENCE_FIELD), None);
    }
}
