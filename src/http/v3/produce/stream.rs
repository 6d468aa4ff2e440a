//! The body of a streamed produce: pulled by the answers, so both directions press back.
//!
//! Each time the client takes answers, what arrived is cut into records, the records become one
//! group of batches, and groups are answered in their order as the log answers them. There is no
//! timer that waits for more: while the groups in flight are as many as may be, what arrives
//! gathers for the next. A client that takes no answers is not read from.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::answer::{Names, Shape, line_into};
use super::arrival::Arrival;
use super::record::{Decoded, ReadError, RecordObject};
use super::split::{SplitError, Splitter};
use super::{EMPTY, stopping};
use crate::base::limits::{
    HTTP_BODY_IDLE_MAX, HTTP_BODY_WAIT_MAX, HTTP_PRODUCE_STREAM_AGE_MAX,
    HTTP_STREAMED_RECORD_BYTES_MAX,
};
use crate::base::shutdown::Stopping;
use crate::engine::BoxFuture;
use crate::http::body::BodyRoom;
use crate::http::error::ApiError;
use crate::http::produce::{Batches, Outcome, ProduceOptions, append_each};
use crate::http::state::AppState;
use crate::http::v3::error::INVALID_PAYLOAD;
use crate::http::v3::request::{self, Charset};

/// Records of one group; their answers are one frame.
const GROUP_RECORDS_MAX: usize = 1024;

/// Bytes of JSON after which a group is closed.
const GROUP_BYTES_MAX: usize = 256 * 1024;

/// Groups that wait for the log at once: with [`GROUP_RECORDS_MAX`], 8,192 records in flight.
const GROUPS_IN_FLIGHT_MAX: usize = 8;

/// Bytes of JSON in flight after which no further group is begun.
const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that are taken from the upload before records are cut from them.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Buffers of one record that are larger than this are not kept for the next.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Usual size of one answer.
const ANSWER_BYTES: usize = 224;

/// Bytes after which a frame of answers is sent.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How long what is still sent is read and dropped after the last answer, so that the client gets
/// to see that answer instead of a broken connection.
const GRACE: Duration = Duration::from_millis(500);

/// Records whose outcome is to come.
struct Group {
    outcomes: BoxFuture<Vec<Outcome>>,
    shapes: Vec<Shape>,
    bytes: usize,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Records are produced.
    Open,
    /// The stream is too old: each further record is refused, for the grace.
    Expired,
    /// What is still sent is dropped, for the grace.
    Draining,
    /// Nothing more is taken; answers may be left.
    Ended,
}

/// The body of one streamed produce.
pub(super) struct ProduceStream {
    state: AppState,
    options: ProduceOptions,
    names: Names,
    charset: Charset,
    upload: Body,
    input: VecDeque<Bytes>,
    input_bytes: usize,
    /// Nothing but white space has come.
    is_blank: bool,
    splitter: Splitter,
    /// Objects that were cut from the upload.
    cut: u64,
    /// The time limits of the record that is arriving.
    arrival: Arrival,
    room: BodyRoom,
    decoded: Decoded,
    groups: VecDeque<Group>,
    in_flight_bytes: usize,
    is_upload_over: bool,
    phase: Phase,
    /// The end of the stream's life, or of its grace.
    due: Pin<Box<Sleep>>,
    stopping: Stopping,
}

impl ProduceStream {
    /// Begins with an upload of which `first` was already read, if anything was.
    pub(super) fn new(
        state: AppState,
        options: ProduceOptions,
        names: Names,
        charset: Charset,
        (first, upload): (Option<Bytes>, Body),
    ) -> Self {
        let mut stream = Self {
            options,
            names,
            charset,
            upload,
            input: VecDeque::new(),
            input_bytes: 0,
            is_blank: true,
            splitter: Splitter::new(HTTP_STREAMED_RECORD_BYTES_MAX),
            cut: 0,
            arrival: Arrival::default(),
            room: state.bodies.room(),
            decoded: Decoded::default(),
            groups: VecDeque::new(),
            in_flight_bytes: 0,
            is_upload_over: false,
            phase: Phase::Open,
            due: Box::pin(tokio::time::sleep(HTTP_PRODUCE_STREAM_AGE_MAX)),
            stopping: state.shutdown.stopping(),
            state,
        };
        if let Some(first) = first {
            stream.take(first);
        }
        stream
    }

    /// Puts a frame of the upload into the input, in UTF-8.
    fn take(&mut self, frame: Bytes) {
        let frame = match self.charset {
            Charset::Utf8 => frame,
            Charset::Latin1 => Bytes::from(request::decode(&frame, self.charset).into_owned()),
        };
        self.is_blank = self.is_blank && frame.iter().all(u8::is_ascii_whitespace);
        self.input_bytes += frame.len();
        self.input.push_back(frame);
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        if self.phase == Phase::Open && Pin::new(&mut self.stopping).poll(context).is_ready() {
            self.end_with(stopping());
        }
        while self.phase != Phase::Ended && self.due.as_mut().poll(context).is_ready() {
            match self.phase {
                Phase::Open => self.enter(Phase::Expired),
                Phase::Expired | Phase::Draining | Phase::Ended => self.phase = Phase::Ended,
            }
        }
    }

    /// Begins a phase that lasts for the grace; the next tick waits for its end.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.due.as_mut().reset(Instant::now() + GRACE);
    }

    /// Answers an error after all that is in flight, and takes no more records.
    fn end_with(&mut self, error: ApiError) {
        let outcomes: BoxFuture<Vec<Outcome>> = Box::pin(async move { vec![Err(error)] });
        self.groups.push_back(Group { outcomes, shapes: vec![Shape::default()], bytes: 0 });
        self.drain();
    }

    /// Takes no more records; what is still sent is dropped.
    fn drain(&mut self) {
        self.forget_input();
        self.enter(Phase::Draining);
    }

    fn forget_input(&mut self) {
        self.input.clear();
        self.input_bytes = 0;
    }

    /// Takes what the client has sent; tells whether there was anything new.
    fn pull(&mut self, context: &mut Context<'_>) -> bool {
        let mut is_new = false;
        while !self.is_upload_over && self.input_bytes < INPUT_BYTES_MAX {
            match Pin::new(&mut self.upload).poll_frame(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data()
                        && self.phase != Phase::Draining
                    {
                        self.take(data);
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    // The client broke off: nobody is left to hear of the rest.
                    self.forget_input();
                    self.is_upload_over = true;
                    self.phase = Phase::Ended;
                }
                Poll::Ready(None) => self.is_upload_over = true,
            }
            is_new = true;
        }
        is_new
    }

    /// Begins as many groups as there may be; tells whether any input was used.
    fn start_groups(&mut self) -> bool {
        let mut is_used = false;
        while matches!(self.phase, Phase::Open | Phase::Expired)
            && !self.input.is_empty()
            && self.groups.len() < GROUPS_IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
        {
            self.start_group();
            is_used = true;
            let held = self.input_bytes + self.in_flight_bytes + self.splitter.carried_bytes();
            if let Err(error) = self.room.resize(held) {
                self.end_with(error);
            }
        }
        is_used
    }

    /// Cuts records from the input and appends them as one group.
    fn start_group(&mut self) {
        let topic = self.state.engine.topics.find(&self.names.topic);
        let expected = self.input_bytes / 128 + 1;
        let mut batches = Batches::new(&self.state, &self.options, expected);
        let target = topic.map(|topic| batches.topic(topic));
        let mut shapes = Vec::with_capacity(expected);
        let (mut bytes, mut is_broken) = (0, false);
        while let Some(frame) = self.input.front_mut()
            && shapes.len() < GROUP_RECORDS_MAX
            && bytes < GROUP_BYTES_MAX
            && !is_broken
        {
            let before = frame.len();
            let object = self.splitter.next(frame);
            self.input_bytes -= before - frame.len();
            let object = match object {
                Ok(Some(object)) => object,
                Ok(None) => {
                    self.input.pop_front();
                    continue;
                }
                Err(error) => {
                    is_broken = true;
                    shapes.push(Shape::default());
                    batches.refuse(split_error(&error));
                    continue;
                }
            };
            bytes += object.len();
            self.cut += 1;
            let is_expired = self.phase == Phase::Expired;
            match read(&object, is_expired, &mut self.decoded) {
                Ok(shape) => {
                    shapes.push(shape);
                    match target {
                        Some(target) => batches.push(target, &self.decoded.record()),
                        None => batches.refuse(ApiError::topic_not_found(&self.names.topic)),
                    }
                }
                Err(refused) => {
                    is_broken = refused.is_last;
                    shapes.push(Shape::default());
                    batches.refuse(refused.error);
                }
            }
        }
        if self.decoded.capacity() > KEPT_BYTES_MAX {
            self.decoded = Decoded::default();
        }
        if !batches.is_empty() {
            let (appends, ledger) = batches.finish();
            let answers = append_each(&*self.state.engine.log, appends);
            self.in_flight_bytes += bytes;
            let outcomes = Box::pin(ledger.settle(answers));
            self.groups.push_back(Group { outcomes, shapes, bytes });
        }
        if is_broken {
            self.drain();
        }
    }

    /// Ends the stream if its record takes too long. To be asked only when nothing new came: over
    /// HTTP/2 a client that does not take its answers is not read from either, and what it sent
    /// meanwhile was not late.
    fn judge_arrival(&mut self, context: &mut Context<'_>) -> bool {
        let is_late = self.phase == Phase::Open && self.arrival.is_over(context);
        if is_late {
            self.end_with(too_slow());
        }
        is_late
    }

    /// Sets the time limits of the record that is arriving; one that waits in the input for its turn
    /// is not late.
    fn note_arrival(&mut self) {
        let is_within = self.input.is_empty() && self.splitter.finish().is_err();
        if is_within && self.phase == Phase::Open {
            self.arrival.progress(self.cut);
        } else {
            self.arrival.end();
        }
    }

    /// Ends the stream once its upload is over and used up.
    fn close(&mut self) {
        if !self.is_upload_over || !self.input.is_empty() || self.phase == Phase::Ended {
            return;
        }
        if self.phase != Phase::Draining {
            if self.is_blank {
                self.end_with(empty());
            } else if let Err(error) = self.splitter.finish() {
                self.end_with(split_error(&error));
            }
        }
        self.phase = Phase::Ended;
    }

    /// The answers that are there, in their order.
    fn settled(&mut self, context: &mut Context<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < ANSWER_BYTES_MAX
            && let Some(group) = self.groups.front_mut()
            && let Poll::Ready(outcomes) = group.outcomes.as_mut().poll(context)
        {
            out.reserve(outcomes.len() * ANSWER_BYTES);
            for (outcome, shape) in outcomes.iter().zip(&group.shapes) {
                line_into(&self.names, outcome, *shape, &mut out);
            }
            self.in_flight_bytes -= group.bytes;
            self.groups.pop_front();
        }
        out
    }
}

impl HttpBody for ProduceStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            this.tick(context);
            let is_pulled = this.pull(context);
            let is_moved = this.start_groups() || is_pulled;
            if is_moved {
                this.note_arrival();
            }
            this.close();
            let answers = this.settled(context);
            if !answers.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(answers)))));
            }
            if this.phase == Phase::Ended && this.groups.is_empty() {
                return Poll::Ready(None);
            }
            if !is_moved && !this.judge_arrival(context) {
                return Poll::Pending;
            }
        }
    }
}

fn too_slow() -> ApiError {
    let message = format!(
        "record did not arrive: a pause within it may last {} s and the whole {} s",
        HTTP_BODY_IDLE_MAX.as_secs(),
        HTTP_BODY_WAIT_MAX.as_secs()
    );
    ApiError::status(StatusCode::REQUEST_TIMEOUT, message)
}

/// A body without any record, once the answer has begun: codes of five digits are told in the text.
fn empty() -> ApiError {
    let message = format!("Error {INVALID_PAYLOAD}: {EMPTY}");
    ApiError::status(StatusCode::UNPROCESSABLE_ENTITY, message)
}

/// A record that goes nowhere.
struct Refused {
    error: ApiError,
    /// Nothing after it can be read.
    is_last: bool,
}

/// Reads one object of the stream.
fn read(object: &[u8], is_expired: bool, decoded: &mut Decoded) -> Result<Shape, Refused> {
    if is_expired {
        let message = format!("stream is older than {} s", HTTP_PRODUCE_STREAM_AGE_MAX.as_secs());
        let error = ApiError::status(StatusCode::REQUEST_TIMEOUT, message);
        return Err(Refused { error, is_last: false });
    }
    let record = RecordObject::read(object).map_err(|refused| match refused {
        ReadError::Syntax(error) => Refused { error, is_last: true },
        ReadError::Shape(error) => Refused { error, is_last: false },
    })?;
    let refuse = |error| Refused { error, is_last: false };
    if record.id.is_some() {
        return Err(refuse(ApiError::bad_request("id is a member of batches only")));
    }
    record.decode(decoded).map_err(refuse)?;
    Ok(Shape { key: decoded.key_shape, value: decoded.value_shape })
}

fn split_error(error: &SplitError) -> ApiError {
    match error {
        SplitError::TooLarge(_) => {
            ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
        }
        SplitError::NotAnObject(_) | SplitError::Unfinished => {
            ApiError::bad_request(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use futures_util::stream;
    use http::HeaderMap;
    use tokio::sync::mpsc;

    use super::*;
    use crate::base::clock::{ManualClock, SharedClock};
    use crate::base::shutdown::Shutdown;
    use crate::consumers::{Consumers, ConsumersOptions};
    use crate::engine::embedded::{Embedded, EmbeddedOptions};
    use crate::engine::topics::CreateTopic;
    use crate::http::metrics::HttpMetrics;
    use crate::http::state::{HttpOptions, Inner, StreamOptions};
    use crate::http::stream::StreamHub;

    /// A door to an engine with the topic `t`.
    async fn door(dir: &std::path::Path) -> (AppState, Embedded) {
        let clock: SharedClock = Arc::new(ManualClock::at(1_790_000_000_000));
        let shutdown = Shutdown::new();
        let options = EmbeddedOptions {
            data_dir: dir.to_owned(),
            settings: Vec::new(),
            groups: Default::default(),
            janitor_interval: Duration::from_secs(3600),
            clock: Arc::clone(&clock),
        };
        let embedded = Embedded::open(options, shutdown.clone()).await.unwrap();
        let engine = embedded.engine();
        let (name, partition_count) = ("t".to_owned(), Some(1));
        let topic = CreateTopic { name, partition_count, ..CreateTopic::default() };
        engine.topics.create(topic).await.unwrap();
        let metrics = Arc::new(HttpMetrics::default());
        let (instances, streams) = (ConsumersOptions::default(), StreamOptions::default());
        let state = AppState::new(Inner {
            consumers: Consumers::start(
                engine.clone(),
                Arc::clone(&clock),
                shutdown.clone(),
                instances,
            ),
            streams: StreamHub::new(
                engine.clone(),
                Arc::clone(&clock),
                streams,
                Arc::clone(&metrics),
                shutdown.clone(),
            ),
            engine,
            metrics,
            clock,
            shutdown,
            options: HttpOptions::default(),
            readiness: Arc::new(|| Ok(())),
            render_metrics: Arc::new(String::new),
            bodies: Default::default(),
            rate: None,
            request_ids: Default::default(),
            keyless_turn: AtomicU32::new(0),
        });
        (state, embedded)
    }

    fn upload() -> (mpsc::Sender<Bytes>, Body) {
        let (sender, receiver) = mpsc::channel::<Bytes>(2);
        let frames = stream::unfold(receiver, |mut receiver| async {
            let frame = receiver.recv().await?;
            Some((Ok::<_, Infallible>(frame), receiver))
        });
        (sender, Body::from_stream(frames))
    }

    async fn is_pending(stream: &mut ProduceStream) -> bool {
        let poll = |context: &mut Context<'_>| {
            Poll::Ready(Pin::new(&mut *stream).poll_frame(context).is_pending())
        };
        std::future::poll_fn(poll).await
    }

    /// Polls until there are so many answers.
    async fn answers(stream: &mut ProduceStream, count: usize) -> String {
        let mut text = String::new();
        while text.lines().count() < count {
            let frame = http_body_util::BodyExt::frame(stream).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn only_a_record_of_which_nothing_came_is_late() {
        let dir = tempfile::tempdir().unwrap();
        let (state, embedded) = door(dir.path()).await;
        let options = ProduceOptions::read(&HeaderMap::new(), None).unwrap();
        let names = Names { cluster_id: "c".to_owned(), topic: "t".to_owned() };
        let (sender, body) = upload();
        let shutdown = state.shutdown.clone();
        let mut stream = ProduceStream::new(state, options, names, Charset::Utf8, (None, body));
        stream.arrival = Arrival::pausing(Duration::from_millis(5));
        sender.try_send(Bytes::from_static(b"{\"value\":")).unwrap();
        assert!(is_pending(&mut stream).await);
        // Nobody polls while the client takes no answers; what it sent waits.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let rest = Bytes::from_static(b"{\"type\":\"JSON\",\"data\":1}}{\"value\":");
        sender.try_send(rest).unwrap();
        // The second record has begun, and nothing more of it comes.
        let answers = answers(&mut stream, 2).await;
        let codes: Vec<_> = answers.lines().map(|line| line.get(..17).unwrap_or(line)).collect();
        assert!(codes[0].contains(":200") && codes[1].contains(":408"), "{answers}");
        shutdown.stop();
        embedded.close();
    }
}
