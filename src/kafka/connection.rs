//! One client's connection: reads requests, keeps the order of answers, ends in good time.
//!
//! Requests run one at a time, as in Kafka, except Produce: the log writes in the call and only
//! durability is awaited, so further Produce requests may start meanwhile. Answers wait in a
//! queue and leave from its front; several that are ready leave in one write.
//!
//! While a request is parked (a long poll, a join) the connection keeps reading ahead a little,
//! because the end of the stream is the only sign that nobody waits any more. It then drops the
//! parked request's future, which withdraws the request. A group member stays until its session
//! ends, whatever happens to its connection.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until};

use super::Session;
use super::answers::Answers;
use super::dispatch::{ReplyError, Request, RequestError, now};
use super::frame::{Filled, FrameError, FrameReader, Next, READ_AHEAD_BYTES};

/// How long a connection may take to end after the server was asked to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long a large frame may stand still while it holds a share of the common budget.
const FRAME_STALL_MAX: Duration = Duration::from_secs(30);

/// Why a connection ended, other than by the peer's wish.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Reply(#[from] ReplyError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Budget(#[from] AcquireError),
    #[error("connection was idle")]
    Idle,
    #[error("a large request stood still half-way")]
    FrameStalled,
    #[error("connection did not end in time for the stop of the server")]
    NotDrained,
}

/// One client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    session: Arc<Session>,
    frames: FrameReader,
    /// A request that must wait until those before it are answered.
    held: Option<Request>,
    answers: Answers,
    /// Bytes that the next frame needs from the shared budget.
    budget_wanted: Option<u32>,
    /// The peer will send nothing more.
    is_ended: bool,
    is_stopping: bool,
    last_activity: Instant,
}

/// What a connection waited for.
enum Event {
    /// An answer was encoded.
    Answered,
    /// The socket had something.
    Filled(Filled),
    /// The shared budget granted the next frame.
    Granted(OwnedSemaphorePermit),
    /// The server is asked to stop.
    Stop,
    /// Time to look for idleness.
    Tick,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, session: Arc<Session>) -> Self {
        Self {
            stream,
            answers: Answers::new(Arc::clone(&session)),
            session,
            frames: FrameReader::default(),
            held: None,
            budget_wanted: None,
            is_ended: false,
            is_stopping: false,
            last_activity: now(),
        }
    }

    /// Serves the connection until one side ends it.
    pub(super) async fn run(mut self) -> Result<(), Closed> {
        let session = Arc::clone(&self.session);
        let shutdown = &session.shared.shutdown;
        let mut stopping = pin!(shutdown.stopping());
        let mut drain_limit = pin!(async {
            shutdown.stopping().await;
            sleep(DRAIN_MAX).await;
        });
        let tick = session.shared.options.idle_timeout.min(FRAME_STALL_MAX);
        let mut next_tick = pin!(sleep_until(now() + tick));
        loop {
            self.advance().await?;
            if self.answers.has_output() {
                tokio::select! {
                    biased;
                    flushed = self.answers.flush(&self.stream) => flushed?,
                    () = &mut drain_limit => return Err(Closed::NotDrained),
                }
                self.last_activity = now();
                continue;
            }
            if self.is_ended || (self.is_stopping && self.answers.is_idle()) {
                return Ok(());
            }
            let is_stopping = self.is_stopping;
            let event = tokio::select! {
                biased;
                event = self.wait() => event?,
                () = &mut stopping, if !is_stopping => Event::Stop,
                () = next_tick.as_mut() => Event::Tick,
                () = &mut drain_limit, if is_stopping => return Err(Closed::NotDrained),
            };
            if let Event::Tick = event {
                next_tick.as_mut().reset(now() + tick);
            }
            self.react(event)?;
        }
    }

    /// Starts what has arrived and encodes what is answered, until neither moves.
    async fn advance(&mut self) -> Result<(), Closed> {
        loop {
            let has_started = self.start_requests()?;
            let answers = &mut self.answers;
            let gathered = poll_fn(|context| Poll::Ready(answers.poll_gather(context))).await;
            let has_gathered = match gathered {
                Poll::Ready(result) => result.map(|()| true)?,
                Poll::Pending => false,
            };
            if !(has_started || has_gathered) || self.answers.is_due() {
                return Ok(());
            }
            // A client that pipelines without end must not keep others from this thread.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Starts requests as far as the order of answers allows; tells whether any was started.
    fn start_requests(&mut self) -> Result<bool, Closed> {
        let mut has_started = false;
        while !self.is_stopping && self.answers.has_room() {
            let (request, permit) = match self.held.take() {
                Some(request) => (request, None),
                None => match self.next_request()? {
                    Some(request) => request,
                    None => break,
                },
            };
            if !request.is_pipelined() && !self.answers.is_idle() {
                self.held = Some(request);
                break;
            }
            self.answers.push(request.start(&self.session)?);
            // The request is decoded and its records are written: the frame is not needed.
            drop(permit);
            has_started = true;
        }
        Ok(has_started)
    }

    fn next_request(&mut self) -> Result<Option<(Request, Option<OwnedSemaphorePermit>)>, Closed> {
        self.budget_wanted = None;
        loop {
            let wanted = match self.frames.next()? {
                Next::Frame(frame) => {
                    return Ok(Some((Request::parse(frame.bytes)?, frame.permit)));
                }
                Next::Incomplete => return Ok(None),
                Next::NeedsBudget(bytes) => bytes,
            };
            let budget = Arc::clone(&self.session.shared.frame_budget);
            match budget.try_acquire_many_owned(wanted) {
                Ok(permit) => self.frames.grant(permit),
                Err(_none_left) => {
                    self.budget_wanted = Some(wanted);
                    return Ok(None);
                }
            }
        }
    }

    /// Waits for the next answer, for bytes, or for a share of the budget.
    ///
    /// # Cancel safety
    /// Safe: an answer that is ready has moved to the output, bytes are in the buffer, and a
    /// share of the budget that was not taken goes back.
    async fn wait(&mut self) -> Result<Event, Closed> {
        // More bytes than the read-ahead are taken only for a request that may start now.
        let may_start = !self.is_stopping && self.held.is_none() && self.answers.has_room();
        let may_read = self.budget_wanted.is_none()
            && (may_start || self.frames.buffered_bytes() < READ_AHEAD_BYTES);
        let budget = Arc::clone(&self.session.shared.frame_budget);
        let wanted = self.budget_wanted.filter(|_| self.answers.is_idle());
        let answers = &mut self.answers;
        tokio::select! {
            biased;
            answered = poll_fn(|context| answers.poll_gather(context)) => {
                answered?;
                Ok(Event::Answered)
            }
            filled = self.frames.fill(&self.stream), if may_read => Ok(Event::Filled(filled?)),
            permit = budget.acquire_many_owned(wanted.unwrap_or(0)), if wanted.is_some() => {
                Ok(Event::Granted(permit?))
            }
        }
    }

    fn react(&mut self, event: Event) -> Result<(), Closed> {
        match event {
            Event::Answered => {}
            Event::Filled(Filled::Bytes(bytes)) => {
                self.session.shared.metrics.received(bytes);
                self.last_activity = now();
            }
            Event::Filled(Filled::EndOfStream) => self.is_ended = true,
            Event::Granted(permit) => self.frames.grant(permit),
            Event::Stop => self.is_stopping = true,
            Event::Tick => self.check_idle()?,
        }
        Ok(())
    }

    fn check_idle(&mut self) -> Result<(), Closed> {
        if !self.answers.is_idle() || self.budget_wanted.is_some() {
            return Ok(());
        }
        let quiet = self.last_activity.elapsed();
        if self.frames.holds_budget() && quiet >= FRAME_STALL_MAX {
            return Err(Closed::FrameStalled);
        }
        if quiet >= self.session.shared.options.idle_timeout {
            return Err(Closed::Idle);
        }
        self.frames.release_if_empty();
        Ok(())
    }
}
