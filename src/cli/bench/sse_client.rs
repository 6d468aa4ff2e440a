//! Reads thousands of live streams on a few threads.
//!
//! Each stream is a local task without a buffer of its own: a thread's streams read into one
//! buffer, and only a line cut in two is kept. Events are recognised by the sequence number in
//! their `data:` line and not otherwise parsed, so it does not matter how a server wraps them.

use std::cell::RefCell;
use std::io::Read;
use std::net::Ipv4Addr;
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

/// Where the sockets of streams come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sources {
    /// Addresses from 127.0.0.1 on that streams are opened from in turn; 1 leaves the choice to
    /// the system. More need a server on the loopback interface.
    pub(super) addresses: u8,
}

impl Sources {
    /// Whatever the system chooses.
    pub(super) const ANY: Self = Self { addresses: 1 };

    /// The address of the stream number `nth`.
    fn address(self, nth: usize) -> Option<Ipv4Addr> {
        let last = nth % usize::from(self.addresses.max(1)) + 1;
        let last = u8::try_from(last).ok().filter(|_| self.addresses > 1)?;
        Some(Ipv4Addr::new(127, 0, 0, last))
    }
}

/// Opens `count` streams; `request` makes what the stream of a number sends.
pub(super) async fn open(
    target: &Target,
    count: usize,
    sources: Sources,
    request: impl Fn(usize) -> Arc<[u8]>,
) -> BenchResult<Vec<OpenStream>> {
    let mut opening = tokio::task::JoinSet::new();
    let mut open = Vec::with_capacity(count);
    let mut started = 0;
    while open.len() < count {
        while started < count && opening.len() < OPENING_MAX {
            opening.spawn(open_one(target.clone(), sources.address(started), request(started)));
            started += 1;
        }
        let stream = opening.join_next().await.ok_or("no stream is being opened")?;
        open.push(stream??);
    }
    Ok(open)
}

async fn open_one(
    target: Target,
    source: Option<Ipv4Addr>,
    request: Arc<[u8]>,
) -> BenchResult<OpenStream> {
    let mut connection = match source {
        None => HttpConnection::connect(&target).await?,
        Some(source) => HttpConnection::connect_from(&target, source).await?,
    };
    let head = connection.begin(&request).await?;
    let (socket, leftover) = connection.into_parts()?;
    if head.status != 200 {
        let said = String::from_utf8_lossy(&leftover);
        return Err(format!("opening a stream: HTTP {}: {said}", head.status).into());
    }
    Ok(OpenStream { socket, leftover, framing: head.framing })
}

impl OpenStream {
    /// Tells whether the server has closed it, and takes nothing from it.
    pub(super) fn end(&self) -> StreamEnd {
        match self.socket.peek(&mut [0]) {
            Ok(0) => StreamEnd::Closed,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => StreamEnd::Closed,
            Ok(_) | Err(_) => StreamEnd::Open,
        }
    }

    /// Reads what has come without waiting; it was the last look at this stream.
    pub(super) fn read_what_came(mut self) -> (Vec<u8>, StreamEnd) {
        let mut came = self.leftover.to_vec();
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return (came, StreamEnd::Closed),
                Ok(taken) => came.extend_from_slice(buffer.get(..taken).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return (came, StreamEnd::Open);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_reset) => return (came, StreamEnd::Closed),
            }
        }
    }

    /// Gives the parts away: the socket, what was read behind the head, and the framing.
    pub(super) fn into_parts(self) -> (std::net::TcpStream, BytesMut, Framing) {
        (self.socket, self.leftover, self.framing)
    }
}

/// Whether the server still has a stream open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// It has.
    Open,
    /// It closed the stream.
    Closed,
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
        // Server-sent events have their records in data lines; lines of JSON are objects or lists.
        if !matches!(line.first(), Some(b'd' | b'{' | b'[')) {
            return;
        }
        let mut rest = line;
        // More than one in a batch.
        while let Some((sequence, after)) = number_after(rest, SEQUENCE_FIELD) {
            let sent = number_after(after, SENT_FIELD);
            rest = sent.map_or(after, |(_, after)| after);
            self.event(sequence, sent.map(|(sent, _)| sent), now, received);
        }
    }

    fn event(&mut self, sequence: u64, sent: Option<u64>, now: u64, received: &mut Received) {
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
        if let Some(sent) = sent {
            received.tally.record_latency_ns(now.saturating_sub(sent));
        }
    }
}

/// Reads the number that follows `field`, past at most a few characters of JSON punctuation: the
/// event may be an object or an object within a string. Also returns what is behind it.
fn number_after<'a>(line: &'a [u8], field: &str) -> Option<(u64, &'a [u8])> {
    const PUNCTUATION_MAX: usize = 6;
    let after = line.get(memmem::find(line, field.as_bytes())? + field.len()..)?;
    let start = after.iter().take(PUNCTUATION_MAX).position(u8::is_ascii_digit)?;
    let number = after.get(start..)?;
    let end = number.iter().position(|b| !b.is_ascii_digit()).unwrap_or(number.len());
    let (digits, rest) = number.split_at(end);
    let add = |sum: u64, b: &u8| sum.wrapping_mul(10).wrapping_add(u64::from(b - b'0'));
    Some((digits.iter().fold(0, add), rest))
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
    fn batches_and_lines_of_json_are_counted() {
        let record = |n| format!("{{\"value\":{}}}", event_value(n, 100));
        let list = format!("[{},{},{}]", record(0), record(1), record(2));
        let text =
            format!("event: batch\ndata: {list}\n\n{list}\n{}\n{{\"@\":\"ping\"}}\n", record(3));
        for piece in [1, 7, 64, text.len()] {
            let (mut scanner, mut received) = (LineScanner::new(4), received());
            for part in text.as_bytes().chunks(piece) {
                scanner.feed(part, now_ns(), &mut received);
            }
            assert_eq!((received.tally.records, received.duplicates), (4, 3));
        }
    }

    #[test]
    fn sources_take_turns() {
        let sources = Sources { addresses: 2 };
        assert_eq!(sources.address(2), Some(Ipv4Addr::new(127, 0, 0, 1)));
        assert_eq!(sources.address(3), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(Sources::ANY.address(3), None);
    }

    #[test]
    fn numbers_are_found_in_objects_and_in_strings() {
        let number = |line| number_after(line, SEQUENCE_FIELD).map(|(number, _)| number);
        assert_eq!(number(br#"data: {"bench_seq":12,"#), Some(12));
        assert_eq!(number(br#"data: "{\"bench_seq\": 7}""#), Some(7));
        assert_eq!(number(b"data: {}"), None);
    }
}
